// The colour bars: the values of the colours on the stage.

import { coloursOf, fadedGradient, gradient, hue } from "../core/colormap";
import type { Context } from "../core/context";
import { NOT_RECORDED, value } from "../core/format";
import type { Range } from "../core/protocol";
import { distinctName } from "../core/wordLabels";
import { rangeOf } from "./overlay";
import type { StageImage } from "./stageImage";

interface Entry {
  readonly name: string;
  readonly range: Range | null;
  readonly paint: string;
}

function entriesOf({ session }: Context, image: StageImage): readonly Entry[] {
  const { viewState, store } = session;
  const run = store.shown.value;
  const step = session.staged;
  if (!run || !step) return [];
  const words = viewState.words.value;
  // A map that a lens shows in place of a word's own is named.
  const lensName = step === run.nearest(viewState.step.value) ? "" : viewState.lens.value?.name;
  if (words.length === 0 && viewState.stage.value === "guidance") {
    return [{ name: "guidance", range: step.guidance_range, paint: gradient("magma") }];
  }
  if (words.length === 0 && viewState.stage.value === "change") {
    const change = image.change(step, run.steps[step.index - 1]);
    return change ? [{ name: "change of 255", range: [0, change.max], paint: gradient("magma") }] : [];
  }
  return words.map((index, position) => {
    const paint = fadedGradient(words.length === 1 ? coloursOf("viridis") : [hue(position)]);
    const name = distinctName(run.info.words, index);
    return {
      name: name && lensName ? `${name}, ${lensName}` : name || lensName || "",
      range: rangeOf(run, step, index, viewState.sharedScale.value),
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
  const { viewState, store } = context.session;
  const hint =
    viewState.stage.value === "change" && viewState.step.value === 0
      ? "There is no step before the first one"
      : store.shown.value?.hasMaps === false
        ? ""
        : "Point at a word to see its heat map";
  return (
    <div class="dv-bars" data-many={entries.length > 2 || undefined}>
      {entries.length === 0 ? <span class="dv-soft">{hint}</span> : null}
      {entries.map(({ name, range, paint }, i) => (
        <span
          class="dv-bar"
          key={`${i} ${name}`}
          title={range ? `${name}: ${value(range[0])} to ${value(range[1])}` : `${name}: ${NOT_RECORDED}`}
        >
          <span class="dv-bar-name">{name}</span>
          {range ? (
            <>
              <span class="dv-num dv-lo">{value(range[0])}</span>
              <i style={{ background: paint }} />
              <span class="dv-num">{value(range[1])}</span>
            </>
          ) : (
            <span class="dv-soft">{NOT_RECORDED}</span>
          )}
        </span>
      ))}
    </div>
  );
}
