// Guidance as a slider: few steps answer while it is dragged, all steps once it rests.

import { type Context, plain, useLayoutEffect, useRef, useSignal } from "../../app/coreExports";

/** A slider that rests for so long starts a run. */
const REST_MS = 200;
const MOST = 20;

interface Props {
  readonly context: Context;
  readonly fixed: boolean;
}

export function GuidanceSlider({ context, fixed }: Props) {
  const { session } = context;
  /** The value under the thumb, until it is asked for. */
  const dragged = useSignal<number | null>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useLayoutEffect(() => () => clearTimeout(timer.current), []);
  const value = dragged.value ?? session.traits.guidance_scale.value ?? 0;
  const run = () => {
    clearTimeout(timer.current);
    const guidance_scale = dragged.value;
    dragged.value = null;
    if (guidance_scale === null || guidance_scale === session.traits.guidance_scale.value) return;
    session.set({ guidance_scale });
    session.run({ guidance_scale, draft: true });
  };
  return (
    <label class="dv-guidance" title="How strongly the prompt pulls the image: 8 steps answer first, then all of them">
      <span>guidance</span>
      <input
        type="range"
        data-testid="guidance-slider"
        aria-label="Guidance"
        min={0}
        max={Math.max(MOST, value)}
        step={0.5}
        disabled={fixed}
        value={value}
        onInput={(event) => {
          dragged.value = Number(event.currentTarget.value);
          clearTimeout(timer.current);
          timer.current = setTimeout(run, REST_MS);
        }}
        onChange={run}
      />
      <span class="dv-num">{plain(value)}</span>
    </label>
  );
}
