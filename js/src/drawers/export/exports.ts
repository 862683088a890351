// What of the run that is looked at can be had as a file: what the kernel makes, and what the page makes by itself.

import {
  cells,
  listOf,
  type Message,
  maybe,
  object,
  place,
  type Region,
  type Run,
  type Session,
  signal,
  text,
} from "../../app/coreExports";
import type { Task } from "../job";

const ANSWER = object({ kinds: listOf(text), name: text, python: maybe(text), file: maybe(text) });
const FILE = object({ name: text, mime: text });
/** What the figures of Python take where nothing is said. */
const [OPACITY, SIZE, LARGEST] = [0.65, 512, 4096];

export interface Exportable extends ReturnType<typeof ANSWER> {
  readonly run: string;
}

/** Asks, once for each run and connection, what can be had of it. */
export class Exports {
  readonly found = signal<Exportable | null>(null);
  #asked = "";

  constructor(private readonly session: Session) {}

  /** Reads the signals whose changes make it ask again. */
  want(): void {
    const { store, connected } = this.session;
    const run = store.shown.value;
    const key = run && connected.value ? `${run.info.run} ${run.end.value !== null}` : "";
    if (!connected.value && this.found.peek()) this.found.value = { ...(this.found.peek() as Exportable), kinds: [] };
    if (key === this.#asked) return;
    this.#asked = key;
    if (run && key) void this.#ask(run.info.run, key);
  }

  async #ask(run: string, key: string): Promise<void> {
    try {
      const found = ANSWER((await this.session.ask({ type: "exports", run })).content, "exports");
      if (key === this.#asked) this.found.value = { ...found, run };
    } catch {
      if (key === this.#asked) this.found.value = null; // what the page makes by itself is still there
    }
  }
}

/** What lies on the stage, as the kernel and the Python are told it: of this step, or of a film of all steps.
 *
 *  Left out, as they are no part of the picture that stays: the word and the place under the pointer, which are gone
 *  when a button is pressed; the meters' scale and which chips are shown; the run to compare with, whose views are the
 *  drawer Compare's. The run's own settings (prompt, seed, weights, ...) are in the run and in the Python that makes it;
 *  the page, the trace and the scores hold everything and are looked at anew. */
export function seen({ look, store }: Session, film = false): Omit<Task, "kind"> | null {
  const run = store.shown.value;
  const step = run?.nearest(look.step.value);
  if (!run || !step) return null;
  const pinned = look.pinned.value;
  const { method, layer, head } = look.lens.value?.exported(run, pinned, film) ?? {};
  const region = look.region.value;
  return {
    run: run.info.run,
    step: step.index,
    words: method ? [] : pinned.map((word) => nameOf(run, word)),
    saliency: method ?? null,
    view: look.stage.value,
    opacity: look.opacity.value,
    layer: layer ?? null,
    head: head ?? null,
    contours: look.contours.value,
    shared_scale: look.shared.value,
    region: region && regionOf(run, region),
  };
}

/** The middles of the first and the last cell that a region touches: few digits, and the same cells. */
function regionOf({ info }: Run, { u0, v0, u1, v1 }: Region): number[] {
  const [rows, columns] = info.grid;
  const [left, right] = cells(u0, u1, columns);
  const [top, bottom] = cells(v0, v1, rows);
  const middle = (cell: number, count: number) => Number(((cell + 0.5) / count).toFixed(4));
  return [middle(left, columns), middle(top, rows), middle(right, columns), middle(bottom, rows)];
}

/** A word by its text, where that means no other one, else by its index. */
function nameOf({ info }: Run, index: number): string | number {
  const word = info.words[index];
  const low = word?.text.toLowerCase();
  const alone = info.words.filter(({ text }) => text.toLowerCase() === low).length === 1;
  return word?.kind === "word" && alone ? word.text : index;
}

/** The Python that makes the figure of what is looked at; null where the trace cannot be had by Python. */
export function pythonOf(session: Session, found: Exportable | null): string | null {
  const run = session.store.shown.value;
  const what = seen(session);
  if (!run || !what || found?.run !== run.info.run || found.python === null) return null;
  const { step, words, view, layer, head, saliency, opacity, contours, shared_scale, region } = what;
  const size = Math.min(Math.max(SIZE, ...run.info.image), LARGEST);
  const given: [name: string, value: unknown, plain: unknown][] = [
    ["step", step, undefined],
    ["words", (words as unknown[]).length ? words : null, null],
    ["view", view, "prediction"],
    ["layer", layer, null],
    ["head", head, null],
    ["saliency", saliency, null],
    ["opacity", opacity, OPACITY],
    ["contours", contours, false],
    ["shared", shared_scale, false],
    ["region", region, null],
    ["size", size, SIZE],
  ];
  const told = given.flatMap(([name, value, plain]) => (value === plain ? [] : [`${name}=${literal(value)}`]));
  // A file of the run has the map; a run that is made again gets it anew.
  const laid =
    saliency === null || found.file
      ? ""
      : `trace.saliency.append(dv.explain.overlay(trace, ${literal(step)}, ${literal(saliency)}))\n`;
  return `${found.python}${laid}dv.export.png(${["trace", literal("view.png"), ...told].join(", ")})\n`;
}

/** Text, numbers and lists of JSON are those of Python too. */
function literal(value: unknown): string {
  if (value === true) return "True";
  return Array.isArray(value) ? `[${value.map(literal).join(", ")}]` : JSON.stringify(value);
}

/** The concept scores as a table, with the columns of dv.export.csv. */
export function csvOf(run: Run): string {
  const scores = run.scores.value;
  if (!scores) return "";
  const names = scores.concepts.flatMap((concept) => [`${concept} cosine`, `${concept} share`]);
  const rows = [["step", "timestep", "sigma", "null_5", "null_95", ...names]];
  scores.cosine.forEach((row, step) => {
    const told = run.steps[step];
    const cells = row?.flatMap((cosine, i) => [cosine, scores.share ? scores.share[step]?.[i] : 1]) ?? [];
    const band = scores.null_band[step] ?? [null, null];
    rows.push([step, told?.timestep, told?.sigma, ...band, ...cells].map((cell) => String(cell ?? "nan")));
  });
  return rows.map((row) => `${row.map(cellOf).join(",")}\r\n`).join("");
}

function cellOf(cell: string): string {
  // A spreadsheet would run a text that begins like a formula.
  const safe = /^[=+\-@\t\r]/.test(cell) && Number.isNaN(Number(cell)) ? `'${cell}` : cell;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** The stage as it is on the screen, without the room around the picture; null where it cannot be read. */
export function stageOf(root: Element | null | undefined, run: Run): Promise<Blob | null> {
  const stage = root?.querySelector<HTMLCanvasElement>("[data-testid=stage] canvas");
  if (!stage) return Promise.resolve(null);
  const size = { width: stage.width, height: stage.height, ratio: 1 };
  const { x, y, width, height } = place(run.info.image, size);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width);
  canvas.height = Math.round(height);
  canvas.getContext("2d")?.drawImage(stage, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** What the kernel made. */
export function fileOf({ content, buffers }: Message): { readonly name: string; readonly blob: Blob } {
  const { name, mime } = FILE(content, "file");
  return { name, blob: new Blob(buffers as readonly ArrayBufferView<ArrayBuffer>[] as BlobPart[], { type: mime }) };
}

/** Has the browser save a file. */
export function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // Browsers begin with it later; what they read by then they keep.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function bytesOf(size: number): string {
  return size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`;
}
