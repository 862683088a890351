// What is looked at, as a file: pictures, animations, the run itself, and the Python that makes the same figure.

import {
  Button,
  type Context,
  type Message,
  useLayoutEffect,
  useMemo,
  useReaction,
  useRef,
  useSignal,
} from "../../app/coreExports";
import { Working } from "../job";
import { bytesOf, csvOf, Exports, fileOf, pythonOf, save, seen, stageOf } from "./exports";

/** What the page makes by itself. */
const OWN = ["stage", "csv"];
/** What shows all steps. */
const FILMS = ["filmstrip", "webp", "gif", "mp4"];

type Entry = readonly [kind: string, label: string, title: string];
const GROUPS: readonly (readonly [name: string, ...entries: Entry[]])[] = [
  [
    "Picture",
    ["png", "Figure", "This step with its colour bars and a caption, PNG"],
    ["stage", "Stage", "The picture as it is on the screen, PNG"],
    ["filmstrip", "Filmstrip", "The steps side by side, PNG"],
  ],
  [
    "Animation",
    ["webp", "WebP", "All steps, with the chosen words, as an animated WebP"],
    ["gif", "GIF", "All steps as an animated GIF: 256 colours, for readers that show nothing newer"],
    ["mp4", "MP4", "All steps as a film, H.264 in MP4"],
  ],
  [
    "Run",
    ["html", "Offline page", "One HTML file that shows all of this without a kernel and without a network"],
    ["trace", "Trace", "Everything that was recorded, safetensors: dv.open_trace opens it"],
    ["compact", "Compact trace", "What is looked at, in under 3 MB: dv.open_trace opens it"],
    ["csv", "Scores", "The concept scores of every step, CSV"],
  ],
];

export function Export({ context }: { readonly context: Context }) {
  const { session } = context;
  const run = session.store.shown.value;
  const root = useRef<HTMLElement>(null);
  const said = useSignal("");
  const exports = useMemo(() => new Exports(session), [session]);
  const keep = (blob: Blob, name: string) => {
    save(blob, name);
    said.value = `${name}, ${bytesOf(blob.size)}`;
  };
  const working = useMemo(
    () =>
      new Working(session, (answer: Message) => {
        const { name, blob } = fileOf(answer);
        keep(blob, name);
      }),
    [session],
  );
  useReaction(() => exports.want(), [exports]);
  useLayoutEffect(() => () => working.drop(), [working]);
  if (!run) return null;
  const found = exports.found.value;
  const name = found?.name ?? "run";
  const there = (kind: string) =>
    kind === "stage" || (kind === "csv" ? run.scores.value !== null : found?.kinds.includes(kind));
  const make = async (kind: string) => {
    said.value = "";
    const what = seen(session, FILMS.includes(kind));
    if (!what) return;
    if (!OWN.includes(kind)) {
      working.begin({ kind: "export", what: kind, ...what });
      return;
    }
    const blob =
      kind === "csv" ? new Blob([csvOf(run)], { type: "text/csv" }) : await stageOf(root.current?.closest(".dv"), run);
    if (blob) keep(blob, kind === "csv" ? `${name}-scores.csv` : `${name}-stage-${Number(what.step) + 1}.png`);
  };
  const standing = working.standing.value;
  const python = pythonOf(session, found);
  const lens = session.look.lens.value;
  const { method, steps = 0 } = lens?.exported(run, session.look.pinned.value, true) ?? {};
  const partly = method !== undefined && steps < run.length && FILMS.some(there);
  return (
    <section class="dv-export" aria-label="Export" ref={root}>
      {GROUPS.map(([group, ...entries]) => {
        const shown = entries.filter(([kind]) => there(kind));
        return shown.length > 0 ? (
          <div key={group} role="group" aria-label={group}>
            <h3>{group}</h3>
            {shown.map(([kind, label, title]) => (
              <Button
                key={kind}
                class="dv-quiet"
                data-testid={`export-${kind}`}
                title={title}
                disabled={working.going && !OWN.includes(kind)}
                onClick={() => void make(kind)}
              >
                {label}
              </Button>
            ))}
          </div>
        ) : null;
      })}
      <p class="dv-soft" role={standing?.state === "failed" ? "alert" : "status"} data-testid="export-state">
        {working.going ? (
          <>
            <progress
              max={1}
              value={standing?.state === "running" ? standing.progress : undefined}
              aria-label="How much is done"
            />
            {standing?.state === "running"
              ? `${Math.round(standing.progress * 100)} %${standing.seconds_left ? ` · ${Math.ceil(standing.seconds_left)} s left` : ""}`
              : "Waiting until the model is free"}
            <Button class="dv-quiet" onClick={() => working.drop()}>
              Stop
            </Button>
          </>
        ) : standing?.state === "failed" ? (
          `This could not be made. ${standing.error}`
        ) : standing?.state === "canceled" ? (
          "Stopped"
        ) : said.value ? (
          `Saved: ${said.value}`
        ) : (
          "What lies on the stage goes into the file: maps, contours, scale, marked place."
        )}
      </p>
      {partly ? (
        <p class="dv-soft">{`In filmstrip and animations, steps without a ${lens?.name} map are plain.`}</p>
      ) : null}
      {python === null ? null : <Python text={python} file={found?.file ?? null} />}
    </section>
  );
}

/** The code is always there to be read; where the clipboard is refused, it is selected for the reader to copy. */
function Python({ text, file }: { readonly text: string; readonly file: string | null }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const said = useSignal("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      said.value = "Copied";
    } catch {
      field.current?.focus();
      field.current?.select();
      // Old, and still the only way into the clipboard from a frame that was not given the new one.
      said.value = document.execCommand("copy") ? "Copied" : "Selected: copy it with Ctrl+C or ⌘C";
    }
  };
  return (
    <div role="group" aria-label="Python">
      <h3>Python</h3>
      <Button class="dv-quiet" data-testid="export-python" onClick={() => void copy()}>
        Copy the Python for this view
      </Button>
      <span class="dv-soft" role="status">
        {said.value || (file ? `It opens ${file}: save the trace beside it.` : "")}
      </span>
      <textarea
        ref={field}
        readOnly
        rows={text.split("\n").length - 1}
        wrap="off"
        spellcheck={false}
        aria-label="The Python for this view"
        value={text}
        onInput={() => undefined}
      />
    </div>
  );
}
