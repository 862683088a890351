// The current view as a file: images, animations, the run itself, and the Python that makes the same figure.

import {
  Button,
  type Context,
  type Message,
  stepNumber,
  useLayoutEffect,
  useMemo,
  useReaction,
  useRef,
  useSignal,
} from "../../app/coreExports";
import { Job } from "../job";
import { exportedView } from "./exportedView";
import { Exports } from "./exports";
import { csvOf, fileOf, formatBytes, save, stageOf } from "./pageFiles";
import { type SourceCode, SourceCodes } from "./sourceCode";

/** What the page makes by itself. */
const MADE_BY_PAGE = ["stage", "bare", "csv"];
/** What shows all steps. */
const OF_ALL_STEPS = ["filmstrip", "webp", "gif", "mp4"];

type Entry = readonly [kind: string, label: string, title: string];
const GROUPS: readonly (readonly [name: string, ...entries: Entry[]])[] = [
  [
    "Image",
    ["png", "Figure", "This step with its colour bars and a caption, PNG"],
    ["stage", "Stage", "The image as it is on the screen, PNG"],
    ["bare", "Stage without words", "The image as it is on the screen, without the words that label it, PNG"],
    ["filmstrip", "Filmstrip", "The steps side by side, PNG"],
  ],
  [
    "Animation",
    ["webp", "WebP", "All steps with the selected words, as an animated WebP"],
    ["gif", "GIF", "All steps as an animated GIF: 256 colours, for viewers that show nothing newer"],
    ["mp4", "MP4", "All steps as a video, H.264 in MP4"],
  ],
  [
    "Run",
    ["html", "Offline page", "One HTML file that shows this run without a kernel and without a network"],
    [
      "live",
      "Page that paints",
      "One HTML file, 27 MB, with this run and the model: it paints new prompts without a kernel and without a network",
    ],
    ["trace", "Trace", "Everything that was recorded, as safetensors: dv.open_trace opens it"],
    ["compact", "Compact trace", "What this view shows, in under 3 MB: dv.open_trace opens it"],
    ["csv", "Scores", "The concept scores of every step, CSV"],
  ],
];

export function Export({ context }: { readonly context: Context }) {
  const { session } = context;
  const { viewState } = session;
  const run = session.store.shown.value;
  const root = useRef<HTMLElement>(null);
  const saved = useSignal("");
  const exports = useMemo(() => new Exports(session), [session]);
  const codes = useMemo(() => new SourceCodes(session), [session]);
  const saveFile = (blob: Blob, name: string) => {
    save(blob, name);
    saved.value = `${name}, ${formatBytes(blob.size)}`;
  };
  const job = useMemo(
    () =>
      new Job(session, (reply: Message) => {
        const { name, blob } = fileOf(reply);
        saveFile(blob, name);
      }),
    [session],
  );
  useReaction(() => exports.request(), [exports]);
  useReaction(() => codes.request(), [codes]);
  useLayoutEffect(
    () => () => {
      job.cancel();
      codes.cancel();
    },
    [job, codes],
  );
  if (!run) return null;
  const available = exports.available.value;
  const name = available?.name ?? "run";
  const isAvailable = (kind: string) =>
    kind === "stage" ||
    (kind === "bare" && viewState.isLabelled.value) ||
    (kind === "csv" ? run.scores.value !== null : available?.kinds.includes(kind));
  const make = async (kind: string) => {
    saved.value = "";
    const view = exportedView(session, OF_ALL_STEPS.includes(kind));
    if (!view) return;
    if (!MADE_BY_PAGE.includes(kind)) {
      job.start({ kind: "export", what: kind, run: run.info.run, ...view });
      return;
    }
    if (kind === "csv") return saveFile(new Blob([csvOf(run)], { type: "text/csv" }), `${name}-scores.csv`);
    // The stage is drawn again at once, and copied before the words return.
    const labels = viewState.labels.value;
    viewState.labels.value = labels && kind === "stage";
    const image = stageOf(root.current?.closest(".dv"), run);
    viewState.labels.value = labels;
    const blob = await image;
    const suffix = kind === "bare" ? "-without-words" : "";
    if (blob) saveFile(blob, `${name}-stage-${stepNumber(view.step)}${suffix}.png`);
  };
  const status = job.status.value;
  const code = codes.current.value;
  const lens = viewState.lens.value;
  const { method, steps = 0 } = lens?.exported(run, viewState.pinned.value, true) ?? {};
  const partly = method !== undefined && steps < run.length && OF_ALL_STEPS.some(isAvailable);
  return (
    <section class="dv-export" aria-label="Export" ref={root}>
      {GROUPS.map(([group, ...entries]) => {
        const shown = entries.filter(([kind]) => isAvailable(kind));
        return shown.length > 0 ? (
          <div key={group} role="group" aria-label={group}>
            <h3>{group}</h3>
            {shown.map(([kind, label, title]) => (
              <Button
                key={kind}
                class="dv-quiet"
                data-testid={`export-${kind}`}
                title={title}
                disabled={job.isRunning && !MADE_BY_PAGE.includes(kind)}
                onClick={() => void make(kind)}
              >
                {label}
              </Button>
            ))}
          </div>
        ) : null;
      })}
      <p class="dv-soft" role={status?.state === "failed" ? "alert" : "status"} data-testid="export-state">
        {job.isRunning ? (
          <>
            <progress max={1} value={status?.state === "running" ? status.progress : undefined} aria-label="Progress" />
            {status?.state === "running"
              ? `${Math.round(status.progress * 100)} %${status.seconds_left ? ` · ${Math.ceil(status.seconds_left)} s left` : ""}`
              : "Waiting until the model is free"}
            <Button class="dv-quiet" onClick={() => job.cancel()}>
              Stop
            </Button>
          </>
        ) : status?.state === "failed" ? (
          `The file could not be created. ${status.error}`
        ) : status?.state === "canceled" ? (
          "Stopped"
        ) : saved.value ? (
          `Saved: ${saved.value}`
        ) : (
          "Images and animations show what the stage shows: heat maps, contours, colour scale, selected region."
        )}
      </p>
      {partly ? (
        <p class="dv-soft">{`In the filmstrip and the animations, steps without a ${lens?.name} map show only the image.`}</p>
      ) : null}
      {code === null ? null : (
        <Python code={code} isStale={codes.isStale.value} of={!session.isOffline ? "view" : "run"} />
      )}
    </section>
  );
}

interface PythonProps {
  readonly code: SourceCode;
  readonly isStale: boolean;
  readonly of: "view" | "run";
}

/** The Python can always be read; where the clipboard is refused, it is selected for the user to copy. */
function Python({ code: { python, file }, isStale, of }: PythonProps) {
  const field = useRef<HTMLTextAreaElement>(null);
  const result = useSignal("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(python);
      result.value = "Copied";
    } catch {
      field.current?.focus();
      field.current?.select();
      // Deprecated, and still the only access to the clipboard from a frame without permission.
      result.value = document.execCommand("copy") ? "Copied" : "Selected: copy it with Ctrl+C or ⌘C";
    }
  };
  return (
    <div role="group" aria-label="Python">
      <h3>Python</h3>
      <Button class="dv-quiet" data-testid="export-python" disabled={isStale} onClick={() => void copy()}>
        {`Copy the Python code for this ${of}`}
      </Button>
      <span class="dv-soft" role="status">
        {result.value || (file ? `It opens ${file}: save the trace in the same folder.` : "")}
      </span>
      <textarea
        ref={field}
        readOnly
        rows={python.split("\n").length - 1}
        wrap="off"
        spellcheck={false}
        aria-label={`The Python code for this ${of}`}
        aria-busy={isStale}
        value={python}
        onInput={() => undefined}
      />
    </div>
  );
}
