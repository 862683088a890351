// How far a work is, with a button to stop it; why it failed.

import { Button } from "../app/coreExports";
import type { Working } from "./job";

export function Progress({ working, what }: { readonly working: Working; readonly what: string }) {
  const standing = working.standing.value;
  if (!standing) return null;
  const { state, progress, seconds_left, error } = standing;
  if (state === "failed") return <p class="dv-problem">{`${what} could not be computed. ${error}`}</p>;
  if (state === "canceled") return <p class="dv-foot">{`${what} was stopped.`}</p>;
  if (!working.going) return null;
  const percent = Math.round(100 * progress);
  return (
    <div class="dv-work">
      <div
        class="dv-work-bar"
        role="progressbar"
        aria-label={what}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
      >
        <i style={{ transform: `scaleX(${progress})` }} />
      </div>
      <span class="dv-num">
        {state === "running"
          ? `${percent} %${seconds_left === null ? "" : ` · ${span(seconds_left)} left`}`
          : "Waiting for the model"}
      </span>
      <Button class="dv-quiet" data-testid="stop-work" onClick={() => working.drop()}>
        Stop
      </Button>
    </div>
  );
}

/** Seconds, in short. */
export function span(seconds: number): string {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}
