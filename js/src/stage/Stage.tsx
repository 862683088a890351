// The picture at this step, and over it the heat maps of the chosen words.

import { useComputed } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { NOT_KEPT, value } from "../core/format";
import { valueAt } from "../core/mapSampling";
import type { Look, Point, StageView } from "../core/viewState";
import { fullNameOf } from "../core/wordLabels";
import { Button } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { ContourIcon } from "../ui/icons";
import { useCanvas } from "../ui/useCanvas";
import { Legend } from "./Legend";
import { Overlay } from "./overlay";
import { pointIn } from "./Probe";
import { between, moved, outline } from "./region";
import { place, StagePicture } from "./stageImage";

const VIEWS: readonly { readonly value: StageView; readonly label: string; readonly title: string }[] = [
  { value: "prediction", label: "Prediction", title: "The clean picture that the model expects at this step" },
  { value: "latents", label: "Noisy", title: "The noisy latents that the model sees at this step" },
  {
    value: "guidance",
    label: "Guidance",
    title: "How far the prompt pulls, and where: conditional minus unconditional",
  },
  { value: "change", label: "Change", title: "What this step changed in the prediction" },
];

export function Stage({ context }: { readonly context: Context }) {
  const { session } = context;
  const { store, look, status, traits } = session;
  const picture = useMemo(() => new StagePicture(context.images), [context]);
  const overlay = useMemo(() => new Overlay(), []);
  /** Where the pointer went down that is marking a place. */
  const begun = useRef<Point | null>(null);

  const canvas = useCanvas((_, c, size) => {
    const run = store.shown.value;
    const step = session.staged;
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    if (!run || !step) return;
    const box = place(run.info.image, size);
    const words = look.words.value;
    const before = run.steps[step.index - 1];
    if (look.stage.value === "change") picture.drawChange(c, step, before, box, size, words.length > 0);
    else picture.draw(c, step, look.stage.value, box, size, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, look, box);
    if (look.region.value) outline(c, look.region.value, run, box);
  });

  const run = store.shown.value;
  const failed = status.value === "failed";
  // The run that is shown is over and another one has been asked for.
  const outdated = store.coming.value !== null || (session.busy.value && run?.end.value != null);
  const empty = !run || run.count.value === 0;
  const available = run?.info.views ?? ["prediction", "latents", "guidance"];

  const readout = useComputed(() => {
    const probe = look.probe.value;
    const shown = store.shown.value;
    const step = session.staged;
    if (!probe || !shown || !step) return "";
    const [h, w] = shown.info.image;
    const at = `${Math.floor(probe.u * w)}, ${Math.floor(probe.v * h)}`;
    const words = look.words.value;
    if (words.length > 0) {
      const read = words.slice(0, 3).map((index) => {
        const found = valueAt(step.maps, index, probe.u, probe.v);
        return `${fullNameOf(shown.info.words[index])} ${found === null ? NOT_KEPT : value(found)}`;
      });
      return `${read.join(" · ")}  at ${at}`;
    }
    return `${picture.read(probe, step, look.stage.value, shown.steps[step.index - 1])}  at ${at}`;
  });

  const below = useComputed(() => (look.probe.value?.v ?? 0) > 0.5 || status.value === "failed");

  const described = useComputed(() => {
    const shown = store.shown.value;
    if (!shown || shown.count.value === 0) return "No picture yet";
    const label = VIEWS.find((entry) => entry.value === look.stage.value)?.label ?? "";
    const words = look.words.value.map((index) => shown.info.words[index]?.text ?? look.lens.value?.name);
    const over = words.length > 0 ? `, with the heat map of ${words.join(" and ")}` : "";
    return `${label} at step ${look.step.value + 1} of ${shown.length}: ${shown.info.prompt}${over}`;
  });

  return (
    <section class="dv-stage" aria-label="Stage" data-testid="stage">
      <div
        class="dv-frame"
        data-dim={outdated || undefined}
        role="application"
        aria-label="Picture: Enter ranks the words that a place reads, arrows move it, Shift and arrows grow it"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a place is marked here by keys, as by the pointer
        tabIndex={0}
        onPointerDown={(event) => {
          if (event.button !== 0 || !run?.mapped || !(event.target instanceof HTMLCanvasElement)) return;
          const point = pointIn(event.currentTarget.getBoundingClientRect(), event, run.info.image);
          if (!point) return;
          event.currentTarget.setPointerCapture(event.pointerId);
          begun.current = point;
          look.region.value = between(point, point);
        }}
        onPointerMove={(event) => {
          const point = run && pointIn(event.currentTarget.getBoundingClientRect(), event, run.info.image);
          look.probe.value = point;
          if (begun.current && point) look.region.value = between(begun.current, point);
        }}
        onLostPointerCapture={() => {
          begun.current = null;
        }}
        onKeyDown={(event) => {
          const region = run?.mapped ? moved(look.region.value, event, run.info.grid) : null;
          if (!region) return;
          look.region.value = region;
          event.preventDefault();
        }}
        onPointerLeave={() => {
          look.probe.value = null;
        }}
      >
        <canvas ref={canvas} role="img" aria-label={described} />
        {empty && !failed ? (
          <p class="dv-empty">
            {status.value === "loading"
              ? traits._notice.value || "Loading the model"
              : session.busy.value
                ? "The first step is under way"
                : "The picture appears here"}
          </p>
        ) : null}
        {failed ? <Failure context={context} /> : null}
        <p class="dv-readout" key={String(below.value)} data-top={below.value || undefined}>
          {readout}
        </p>
      </div>
      <div class="dv-stage-bar">
        <Choice
          label="What the stage shows"
          options={VIEWS.map((entry) => {
            const there = available.includes(entry.value === "change" ? "prediction" : entry.value);
            const title = there ? entry.title : `${entry.label} was not recorded for this run`;
            return { ...entry, title, disabled: !there };
          })}
          chosen={look.stage.value}
          choose={(view) => {
            look.stage.value = view;
          }}
        />
        {run?.mapped === false ? null : (
          <>
            <Button
              class="dv-quiet dv-contours"
              aria-label="Contour lines"
              aria-pressed={look.contours.value}
              title="Contour lines: a half, a quarter and a tenth of the picture lie inside"
              onClick={() => {
                look.contours.value = !look.contours.value;
              }}
            >
              <ContourIcon />
            </Button>
            <Opacity look={look} />
          </>
        )}
      </div>
      <Legend context={context} picture={picture} />
    </section>
  );
}

function Opacity({ look }: { readonly look: Look }) {
  return (
    <label class="dv-opacity" title="How strongly heat maps cover the picture">
      <span class="dv-sr">Opacity of the heat maps</span>
      <input
        type="range"
        min={0}
        max={1}
        step={0.05}
        value={look.opacity.value}
        aria-valuetext={`${Math.round(look.opacity.value * 100)} %`}
        onInput={(event) => {
          look.opacity.value = Number(event.currentTarget.value);
        }}
      />
    </label>
  );
}

function Failure({ context }: { readonly context: Context }) {
  const { store, traits } = context.session;
  const said = traits.error.value || store.shown.value?.end.value?.error || "The kernel gave no reason.";
  return (
    <div class="dv-failure">
      <strong>The run failed</strong>
      <p>{said}</p>
    </div>
  );
}
