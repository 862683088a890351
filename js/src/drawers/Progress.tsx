// The progress of a job with a button to stop it, or why it failed.

import { Button } from "../app/coreExports";
import type { Job } from "./job";

export function Progress({ job, what }: { readonly job: Job; readonly what: string }) {
  const status = job.status.value;
  if (!status) return null;
  const { state, progress, seconds_left, error } = status;
  if (state === "failed") return <p class="dv-problem">{`${what} could not be computed. ${error}`}</p>;
  if (state === "canceled") return <p class="dv-foot">{`${what} was stopped.`}</p>;
  if (!job.isRunning) return null;
  const percent = Math.round(100 * progress);
  return (
    <div class="dv-job">
      <div
        class="dv-job-bar"
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
          ? `${percent} %${seconds_left === null ? "" : ` · ${formatSpan(seconds_left)} left`}`
          : "Waiting for the model"}
      </span>
      <Button class="dv-quiet" data-testid="stop-job" onClick={() => job.cancel()}>
        Stop
      </Button>
    </div>
  );
}

/** Seconds or minutes, rounded. */
export function formatSpan(seconds: number): string {
  return seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
}
