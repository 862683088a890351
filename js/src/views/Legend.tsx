// The colour bar: what the colours on the stage mean, in numbers, and how strongly they cover it.

import { css, gradient, hue } from "../core/colormap";
import { NOT_KEPT, value } from "../core/format";
import type { Range } from "../core/protocol";
import { fullNameOf } from "./Chips";
import type { Context } from "./context";
import { rangeOf } from "./overlay";

interface Entry {
  readonly name: string;
  readonly range: Range | null;
  readonly paint: string;
}

function entriesOf({ session }: Context): readonly Entry[] {
  const { look, store } = session;
  const run = store.shown.value;
  const step = run?.nearest(look.step.value);
  if (!run || !step) return [];
  const words = look.words.value;
  if (words.length === 0 && look.stage.value === "guidance") {
    return [{ name: "guidance", range: step.guidanceRange, paint: gradient("magma") }];
  }
  return words.map((index, position) => {
    const paint = words.length === 1 ? gradient("viridis") : `linear-gradient(90deg,transparent,${css(hue(position))})`;
    return { name: fullNameOf(run.info.words[index]), range: rangeOf(run, step, index, look.shared.value), paint };
  });
}

export function Legend({ context }: { readonly context: Context }) {
  const entries = entriesOf(context);
  const words = context.session.store.shown.value?.mapped !== false;
  return (
    <div class="dv-bars" data-many={entries.length > 2 || undefined}>
      {entries.length === 0 && words ? <span class="dv-soft">Point at a word to see where it looks</span> : null}
      {entries.map(({ name, range, paint }, i) => (
        <span
          class="dv-bar"
          key={`${i} ${name}`}
          title={`Attention of “${name}”: ${range ? `${value(range[0])} to ${value(range[1])}` : NOT_KEPT}`}
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
