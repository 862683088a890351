// The line under the prompt: the status, and warnings about the words. The rule above it shows the progress of the run.

import { useComputed } from "@preact/signals";
import type { Context } from "../core/context";
import { promptText, statusText } from "../core/statusText";

const DOT = { calm: "weak", busy: "accent", good: "good", bad: "bad" } as const;

export function StatusLine({ context }: { readonly context: Context }) {
  const { session, problem, hint } = context;
  const { store, status, traits } = session;
  const shown = statusText(session);
  const words = promptText(session);
  const done = useComputed(() => {
    const current = store.pending.value ?? store.shown.value;
    if (status.value === "loading" || status.value === "queued") return traits.progress.value;
    if (!session.busy.value || !current) return 0;
    return Math.min(1, (current.latest.value + 1) / Math.max(1, current.info.steps));
  });
  const isPending = shown.tone === "busy" && done.value === 0;
  return (
    <div class="dv-line">
      <div
        class="dv-progress"
        data-busy={shown.tone === "busy" || undefined}
        data-pending={isPending || undefined}
        aria-hidden="true"
      >
        <i style={{ transform: `scaleX(${done.value})` }} />
      </div>
      <p class="dv-status" data-testid="status" data-status={status.value} data-tone={shown.tone} title={shown.text}>
        <i aria-hidden="true" style={{ background: `var(--${DOT[shown.tone]})` }} />
        {shown.text}
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
      {/* Screen readers announce changes of the state, not every step. */}
      <p class="dv-sr" role="status">
        {status.value === "running" ? "Running" : shown.text}
      </p>
    </div>
  );
}
