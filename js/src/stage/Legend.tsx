// The colour bar: what the colours on the stage mean, in numbers, and how strongly they cover it.

import { css, gradient, hue } from "../core/colormap";
import type { Context } from "../core/context";
import { NOT_KEPT, value } from "../core/format";
import type { Range } from "../core/protocol";
import { fullNameOf } from "../core/wordLabels";
import { rangeOf } from "./overlay";
import type { StagePicture } from "./stageImage";

interface Entry {
  readonly name: string;
  readonly range: Range | null;
  readonly paint: string;
}

function entriesOf({ session }: Context, picture: StagePicture): readonly Entry[] {
  const { look, store } = session;
  const run = store.shown.value;
  const step = session.staged;
  if (!run || !step) return [];
  const words = look.words.value;
  // What is laid on the stage in the place of a word's own map is told apart from it.
  const drilled = step === run.nearest(look.step.value) ? "" : look.lens.value?.name;
  if (words.length === 0 && look.stage.value === "guidance") {
    return [{ name: "guidance", range: step.guidance_range, paint: gradient("magma") }];
  }
  if (words.length === 0 && look.stage.value === "change") {
    const change = picture.change(step, run.steps[step.index - 1]);
    return change ? [{ name: "change of 255", range: [0, change.most], paint: gradient("magma") }] : [];
  }
  return words.map((index, position) => {
    const paint = words.length === 1 ? gradient("viridis") : `linear-gradient(90deg,transparent,${css(hue(position))})`;
    const name = fullNameOf(run.info.words[index]);
    return {
      name: name && drilled ? `${name}, ${drilled}` : name || drilled || "",
      range: rangeOf(run, step, index, look.shared.value),
      paint,
    };
  });
}

interface Props {
  readonly context: Context;
  readonly picture: StagePicture;
}

export function Legend({ context, picture }: Props) {
  const entries = entriesOf(context, picture);
  const { look, store } = context.session;
  const hint =
    look.stage.value === "change" && look.step.value === 0
      ? "The first step has none before it"
      : store.shown.value?.mapped === false
        ? ""
        : "Point at a word to see where it looks";
  return (
    <div class="dv-bars" data-many={entries.length > 2 || undefined}>
      {entries.length === 0 ? <span class="dv-soft">{hint}</span> : null}
      {entries.map(({ name, range, paint }, i) => (
        <span
          class="dv-bar"
          key={`${i} ${name}`}
          title={range ? `${name}: ${value(range[0])} to ${value(range[1])}` : `${name}: ${NOT_KEPT}`}
        >
          <span class="dv-bar-name">{name}</span>
          {range ? (
            <>
              <span class="dv-num dv-lo">{value(range[0])}</span>
              <i style={{ background: paint }} />
              <span class="dv-num">{value(range[1])}</span>
            </>
          ) : (
            <span class="dv-soft">{NOT_KEPT}</span>
          )}
        </span>
      ))}
    </div>
  );
}
