// The image at this step, covered by the heat maps of the chosen words.

import { useComputed, useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Context } from "../core/context";
import { NOT_RECORDED, value } from "../core/format";
import { unitOf } from "../core/mapKind";
import { valueAt } from "../core/mapSampling";
import { stepNumber } from "../core/stepNumbers";
import type { StageView, ViewState } from "../core/viewState";
import { distinctName } from "../core/wordLabels";
import { Button, toggle } from "../ui/Button";
import { Choice } from "../ui/Choice";
import { ContourIcon, CrossIcon, LabelIcon } from "../ui/icons";
import { useCanvas } from "../ui/useCanvas";
import { useBrush } from "./brush";
import { Legend } from "./Legend";
import { LabelOverlay } from "./labels";
import { Overlay } from "./overlay";
import { drawRegion, moveRegion } from "./region";
import { fitImage, StageImage } from "./stageImage";

const VIEWS: readonly { readonly value: StageView; readonly label: string; readonly title: string }[] = [
  { value: "prediction", label: "Prediction", title: "The clean image that the model predicts at this step" },
  { value: "latents", label: "Noisy", title: "The noisy latents that the model denoises at this step" },
  {
    value: "guidance",
    label: "Guidance",
    title: "How much guidance changes the prediction, and where: conditional minus unconditional",
  },
  { value: "change", label: "Change", title: "What this step changed in the prediction" },
];

export function Stage({ context }: { readonly context: Context }) {
  const { session } = context;
  const { store, viewState, status, traits } = session;
  const image = useMemo(() => new StageImage(context.images), [context]);
  const overlay = useMemo(() => new Overlay(), []);
  const labels = useMemo(() => new LabelOverlay(), []);
  const brush = useBrush(session);

  const canvas = useCanvas((_, c, size) => {
    const run = store.shown.value;
    const step = session.staged;
    c.clearRect(0, 0, size.width * size.ratio, size.height * size.ratio);
    if (!run || !step || context.onStage.value) return;
    const box = fitImage(run.info.image, size);
    const words = viewState.words.value;
    const before = run.atFrame(run.steps[step.index - 1]);
    if (viewState.stage.value === "change") image.drawChange(c, step, before, box, words.length > 0);
    else image.draw(c, step, viewState.stage.value, box, words.length > 0);
    if (words.length > 0) overlay.draw(c, run, step, words, viewState, box);
    else if (viewState.isLabelled.value) labels.draw(c, run, step, viewState.opacity.value, box, size.ratio);
    if (viewState.region.value) drawRegion(c, viewState.region.value, run, box);
  });

  const Replacement = context.onStage.value?.View;
  const run = store.shown.value;
  const failed = status.value === "failed";
  // The shown run is over and another one has been requested.
  const isOutdated = store.pending.value !== null || (session.busy.value && run?.end.value != null);
  const isEmpty = !run || run.count.value === 0;
  const available = run?.info.views ?? ["prediction", "latents", "guidance"];

  const readout = useComputed(() => {
    const probe = viewState.probe.value;
    const shown = store.shown.value;
    const step = session.staged;
    if (!probe || !shown || !step) return "";
    const [h, w] = shown.info.image;
    const at = `${Math.floor(probe.u * w)}, ${Math.floor(probe.v * h)}`;
    const words = viewState.words.value;
    if (words.length > 0) {
      const readings = words.slice(0, 3).map((index) => {
        const reading = valueAt(step.maps, index, probe.u, probe.v);
        return `${distinctName(shown.info.words, index)} ${reading === null ? NOT_RECORDED : `${value(reading)}${unitOf(step)}`}`;
      });
      return `${readings.join(" · ")}  at ${at}`;
    }
    return `${image.read(probe, step, viewState.stage.value, shown.atFrame(shown.steps[step.index - 1]))}  at ${at}`;
  });

  const isReadoutOnTop = useComputed(() => (viewState.probe.value?.v ?? 0) > 0.5 || status.value === "failed");

  /** Whether the stage shows an approximation that the decoded image replaces. */
  const isPreview = useComputed(() => {
    const view = viewState.stage.value;
    const step = session.staged;
    return step?.images.prediction !== undefined && !step.exact && (view === "prediction" || view === "change");
  });

  const description = useComputed(() => {
    const shown = store.shown.value;
    if (!shown || shown.count.value === 0) return "No image yet";
    const label = VIEWS.find((entry) => entry.value === viewState.stage.value)?.label ?? "";
    const words = viewState.words.value.map((index) => shown.info.words[index]?.text ?? viewState.lens.value?.name);
    const over =
      words.length > 0
        ? `, with the heat map of ${words.join(" and ")}`
        : viewState.isLabelled.value
          ? ", with each word at its peak"
          : "";
    return `${label} at step ${stepNumber(viewState.step.value)} of ${shown.length}: ${shown.info.prompt}${over}`;
  });

  return (
    <section class="dv-stage" aria-label="Stage" data-testid="stage">
      <div
        class="dv-frame"
        hidden={Replacement !== undefined}
        data-dim={isOutdated || undefined}
        role="application"
        aria-label="Image. Press Enter to rank the words attended to at this position; arrow keys move the region, Shift and arrow keys resize it"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a region is selected here by keys, as by the pointer
        tabIndex={0}
        {...brush}
        onKeyDown={(event) => {
          const region = run?.hasMaps ? moveRegion(viewState.region.value, event, run.info.grid) : null;
          if (!region) return;
          viewState.region.value = region;
          event.preventDefault();
        }}
      >
        <canvas ref={canvas} role="img" aria-label={description} />
        {isEmpty && !failed ? (
          <p class="dv-empty">
            {status.value === "loading"
              ? traits._notice.value || "Loading the model"
              : session.busy.value
                ? "Computing the first step"
                : "The image will appear here"}
          </p>
        ) : null}
        {isPreview.value ? <p class="dv-readout dv-preview">preview</p> : null}
        {failed ? <Failure context={context} /> : null}
        <p class="dv-readout" key={String(isReadoutOnTop.value)} data-top={isReadoutOnTop.value || undefined}>
          {readout}
        </p>
      </div>
      {Replacement ? <Replacement /> : null}
      <div class="dv-stage-bar">
        <Choice
          label="What the stage shows"
          options={VIEWS.map((entry) => {
            const isAvailable = available.includes(entry.value === "change" ? "prediction" : entry.value);
            const title = isAvailable ? entry.title : `${entry.label} was not recorded for this run`;
            return { ...entry, title, disabled: !isAvailable };
          })}
          chosen={viewState.stage.value}
          choose={(view) => {
            viewState.stage.value = view;
          }}
        />
        {run?.hasMaps === false ? null : (
          <>
            <Button
              class="dv-quiet dv-labels"
              aria-label="Words on the image"
              title="Words: each pixel in the colour of the word that is attended to most there. Seen while no word is chosen and the pointer is not on the image."
              {...toggle(viewState.labels)}
            >
              <LabelIcon />
            </Button>
            <Button
              class="dv-quiet dv-contours"
              aria-label="Contour lines"
              title="Contour lines: inside, a heat map has values above the middle of its colour bar"
              {...toggle(viewState.contours)}
            >
              <ContourIcon />
            </Button>
            <Opacity viewState={viewState} />
          </>
        )}
      </div>
      <Legend context={context} image={image} />
    </section>
  );
}

function Opacity({ viewState }: { readonly viewState: ViewState }) {
  return (
    <label class="dv-opacity" title="How much the heat maps cover the image">
      <span class="dv-sr">Opacity of the heat maps</span>
      <input
        type="range"
        min={0}
        max={1}
        step={0.05}
        value={viewState.opacity.value}
        aria-valuetext={`${Math.round(viewState.opacity.value * 100)} %`}
        onInput={(event) => {
          viewState.opacity.value = Number(event.currentTarget.value);
        }}
      />
    </label>
  );
}

function Failure({ context }: { readonly context: Context }) {
  const { store, traits } = context.session;
  const reason = traits.error.value || store.shown.value?.end.value?.error || "The kernel gave no reason.";
  const [, headline, cause] = /^(.+ run again\.)\n(.*)$/s.exec(reason) ?? [];
  const isClosed = useSignal(false);
  return isClosed.value ? null : (
    <div class="dv-failure">
      <Button
        class="dv-quiet"
        aria-label="Close"
        title="Close, and see the last step"
        onClick={() => {
          isClosed.value = true;
        }}
      >
        <CrossIcon />
      </Button>
      <strong>{headline ?? "The run failed"}</strong>
      <p>{cause ?? reason}</p>
    </div>
  );
}
