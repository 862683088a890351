// The runs that the kernel keeps, requested again whenever a run begins or ends.

import { bytes, listOf, maybe, number, object, type Session, signal, text, whole } from "../app/coreExports";

const ENTRY = object({
  run: text,
  prompt: text,
  seed: maybe(whole),
  steps: whole,
  guidance_scale: maybe(number),
  schedule: text,
  schedule_strength: number,
  weights: maybe((value: unknown) => value as Readonly<Record<string, number | null>>),
  state: text,
  finished: whole,
  notes: (value: unknown) => (typeof value === "number" ? value : 0),
  has_image: (value: unknown) => value === true,
});
const REPLY = object({ limit: whole, runs: listOf(ENTRY) });

export type Entry = ReturnType<typeof ENTRY> & { readonly image: Uint8Array | null };

export class RunHistory {
  readonly entries = signal<readonly Entry[]>([]);
  readonly limit = signal(8);
  readonly problem = signal("");
  #requests = 0;

  constructor(private readonly session: Session) {}

  /** Requests the list; call it in a reaction. */
  request(): void {
    const { store, connected } = this.session;
    // The list changes with these.
    store.pending.value;
    store.shown.value?.end.value;
    if (connected.value) void this.#ask();
  }

  async #ask(): Promise<void> {
    const request = ++this.#requests;
    try {
      const { content, buffers } = await this.session.ask({ type: "runs" });
      const { limit, runs } = REPLY(content, "runs");
      let next = 0;
      if (request !== this.#requests) return;
      this.entries.value = runs.map((run) => ({
        ...run,
        image: run.has_image ? bytes(buffers[next++], "image") : null,
      }));
      this.limit.value = limit;
      this.problem.value = "";
    } catch (error) {
      this.problem.value = error instanceof Error ? error.message : String(error);
    }
  }
}

/** The settings of a run besides its prompt. */
export function settingsOf(entry: Entry): string {
  const { seed, steps, guidance_scale, schedule, schedule_strength, weights, state, finished } = entry;
  const weightTexts = Object.entries(weights ?? {}).map(([word, factor]) =>
    factor === null ? `without ${word}` : `${word} ×${factor}`,
  );
  return [
    seed === null ? "" : `seed ${seed}`,
    state === "done" ? `${steps} steps` : `${finished} of ${steps} steps`,
    guidance_scale === null ? "" : `guidance ${guidance_scale}`,
    schedule === "uniform" ? "" : `${schedule} ${schedule_strength}`,
    ...weightTexts,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** The prompt and the seed of a run, and what else tells it from another one. */
export function nameBeside(entry: Entry, other: Entry | undefined): string {
  const others = other ? settingsOf(other).split(" · ") : [];
  const settings = settingsOf(entry).split(" · ");
  return [entry.prompt, ...settings.filter((text) => text.startsWith("seed ") || !others.includes(text))].join(" · ");
}

/** How the settings of two runs differ besides their prompts, as "seed 3 → 7"; empty where they do not. */
export function differenceOf(a: Entry, b: Entry): string {
  const change = (name: string, from: unknown, to: unknown) => (from === to ? "" : `${name} ${from} → ${to}`);
  const weightOf = (entry: Entry, word: string) => {
    const factor = entry.weights?.[word];
    return factor === null ? "left out" : `×${factor ?? 1}`;
  };
  const words = new Set([...Object.keys(a.weights ?? {}), ...Object.keys(b.weights ?? {})]);
  const scheduleOf = ({ schedule, schedule_strength }: Entry) =>
    schedule === "uniform" ? schedule : `${schedule} ${schedule_strength}`;
  return [
    ...[...words].map((word) => change(word, weightOf(a, word), weightOf(b, word))),
    change("seed", a.seed ?? "unknown", b.seed ?? "unknown"),
    change("steps", a.steps, b.steps),
    change("guidance", a.guidance_scale ?? "none", b.guidance_scale ?? "none"),
    change("schedule", scheduleOf(a), scheduleOf(b)),
  ]
    .filter(Boolean)
    .join(" · ");
}
