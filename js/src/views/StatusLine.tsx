// One quiet line under the prompt: what is going on, and what there is to know about the words. The rule above it
// fills as the run goes.

import { useComputed } from "@preact/signals";
import type { Context } from "../core/context";
import { tellStatus, tellWords } from "../core/statusText";

const DOT = { calm: "weak", busy: "accent", good: "good", bad: "bad" } as const;

export function StatusLine({ context }: { readonly context: Context }) {
  const { session, problem, hint } = context;
  const { store, status, traits } = session;
  const told = tellStatus(session);
  const words = tellWords(session);
  const done = useComputed(() => {
    const current = store.coming.value ?? store.shown.value;
    if (status.value === "loading" || status.value === "queued") return traits.progress.value;
    if (!session.busy.value || !current) return 0;
    return Math.min(1, (current.latest.value + 1) / Math.max(1, current.info.steps));
  });
  const pending = told.tone === "busy" && done.value === 0;
  return (
    <div class="dv-line">
      <div
        class="dv-progress"
        data-busy={told.tone === "busy" || undefined}
        data-pending={pending || undefined}
        aria-hidden="true"
      >
        <i style={{ transform: `scaleX(${done.value})` }} />
      </div>
      <p class="dv-status" data-testid="status" data-status={status.value} data-tone={told.tone} title={told.text}>
        <i aria-hidden="true" style={{ background: `var(--${DOT[told.tone]})` }} />
        {told.text}
      </p>
      {problem.value !== "" ? (
        <p class="dv-note" data-tone="bad" role="alert">
          {problem.value}
        </p>
      ) : (
        <p class="dv-note" title={hint.value || words}>
          {hint.value || words}
        </p>
      )}
      {/* Said aloud when the state changes, not at every step. */}
      <p class="dv-sr" role="status">
        {status.value === "running" ? "Running" : told.text}
      </p>
    </div>
  );
}
