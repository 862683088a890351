// The colour bars: the values of the colours on the stage.

import { coloursOf, css, fadedGradient, gradient, type Rgb } from "../core/colormap";
import type { Context } from "../core/context";
import { ends, NOT_RECORDED } from "../core/format";
import { unitOf } from "../core/mapKind";
import type { Range } from "../core/protocol";
import { coloursOfWords, distinctName } from "../core/wordLabels";
import { Button } from "../ui/Button";
import { rangeOf } from "./overlay";
import type { StageImage } from "./stageImage";

const KIND_TITLES = {
  refined:
    "Averaged over the image's self-attention, relative to the mean of the map: it follows things best. Click to see the attention itself",
  probability: "Attention probabilities, 0 to 1. Click for the refined maps, which follow things best",
};

/** A mark in the middle of a colour bar, the value on the contour lines. */
function markOf(colour: string): string {
  const edges = [-2, -0.75, 0.75, 2].map((edge) => `calc(50% + ${edge}px)`);
  const [left, start, end, right] = edges;
  const bands = `#0000 ${left}, #0008 0 ${start}, ${colour} 0 ${end}, #0008 0 ${right}, #0000 0`;
  return `linear-gradient(90deg, ${bands})`;
}

interface Entry {
  readonly name: string;
  readonly range: Range | null;
  readonly unit: string;
  readonly paint: string;
}

function entriesOf({ session }: Context, image: StageImage): readonly Entry[] {
  const { viewState, store } = session;
  const run = store.shown.value;
  const step = session.staged;
  if (!run || !step) return [];
  const words = viewState.words.value;
  // A map that a lens shows in place of a word's own is named.
  const lensName = step === session.step ? "" : viewState.lens.value?.name;
  if (words.length === 0 && viewState.stage.value === "guidance") {
    return [{ name: "guidance", range: step.guidance_range, unit: "", paint: gradient("magma") }];
  }
  if (words.length === 0 && viewState.stage.value === "change") {
    const change = image.change(step, run.atFrame(run.steps[step.index - 1]));
    return change ? [{ name: "change of 255", range: [0, change.max], unit: "", paint: gradient("magma") }] : [];
  }
  const colours = coloursOfWords(run.info.words, words);
  return words.map((index, position) => {
    const isSingle = words.length === 1;
    const colour = colours[position] as Rgb;
    const bar = fadedGradient(isSingle ? coloursOf("viridis") : [colour]);
    const paint = viewState.contours.value ? `${markOf(isSingle ? "#fff" : css(colour))}, ${bar}` : bar;
    const name = distinctName(run.info.words, index);
    return {
      name: name && lensName ? `${name}, ${lensName}` : name || lensName || "",
      range: rangeOf(run, step, index, viewState.sharedScale.value),
      unit: unitOf(step),
      paint,
    };
  });
}

interface Props {
  readonly context: Context;
  readonly image: StageImage;
}

export function Legend({ context, image }: Props) {
  const entries = entriesOf(context, image);
  const { viewState, store, step, staged } = context.session;
  // A lens shows maps of a kind of its own.
  const hasTwoKinds = viewState.words.value.length > 0 && step === staged && Boolean(step?.refined);
  const hint =
    viewState.stage.value === "change" && viewState.step.value === 0
      ? "There is no step before the first one"
      : store.shown.value?.hasMaps
        ? "Point at a word, or tap it, to see its heat map"
        : "";
  return (
    <div class="dv-bars" data-many={entries.length > 1 || undefined}>
      {entries.length === 0 ? <span class="dv-soft">{hint}</span> : null}
      {entries.map(({ name, range, unit, paint }, i) => {
        const [lo, hi] = range ? ends(range).map((end) => `${end}${unit}`) : [];
        return (
          <span class="dv-bar" key={`${i} ${name}`} title={`${name}: ${range ? `${lo} to ${hi}` : NOT_RECORDED}`}>
            <span class="dv-bar-name">{name}</span>
            {range ? (
              <>
                <span class="dv-num dv-lo">{lo}</span>
                <i style={{ background: paint }} />
                <span class="dv-num">{hi}</span>
              </>
            ) : (
              <span class="dv-soft">{NOT_RECORDED}</span>
            )}
          </span>
        );
      })}
      {entries.length > 0 && hasTwoKinds ? (
        <Button
          class="dv-quiet dv-kind"
          data-testid="map-kind"
          aria-pressed={viewState.mapKind.value === "refined"}
          title={KIND_TITLES[viewState.mapKind.value]}
          onClick={() => {
            viewState.mapKind.value = viewState.mapKind.value === "refined" ? "probability" : "refined";
          }}
        >
          {viewState.mapKind.value === "refined" ? "refined" : "attention"}
        </Button>
      ) : null}
    </div>
  );
}
