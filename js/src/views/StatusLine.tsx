// The line under the prompt: the status, and warnings about the words. The rule above it shows the progress of the run.

import { useComputed } from "@preact/signals";
import type { Context } from "../core/context";
import { HINTS } from "../core/hints";
import { promptText, statusText } from "../core/statusText";
import { Button } from "../ui/Button";
import { CrossIcon } from "../ui/icons";
import { useReaction } from "../ui/useCanvas";

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
      ) : hint.value || words ? (
        <p class="dv-note" title={hint.value || words}>
          {hint.value || words}
        </p>
      ) : canCompare(context) ? (
        <p class="dv-note dv-hint" data-testid="offer-compare">
          <Button
            onClick={() => {
              session.viewState.compareWith.value = store.previous?.info.run ?? "";
              context.drawers.show("compare", session);
            }}
          >
            Compare with the prompt before
          </Button>
        </p>
      ) : (
        <GestureHint context={context} />
      )}
      {/* Screen readers announce changes of the state, not every step. */}
      <p class="dv-sr" role="status">
        {status.value === "running" ? "Running" : shown.text}
      </p>
    </div>
  );
}

/** Whether the run on the page is over, had another prompt than the run before it, and the two are not compared yet. */
function canCompare({ session: { store, busy, connected }, drawers }: Context): boolean {
  const [run, before] = [store.shown.value, store.previous];
  const isEdited = run?.end.value != null && before !== null && before.info.prompt !== run.info.prompt;
  return isEdited && !busy.value && connected.value && drawers.isAvailable && !drawers.open.value.includes("compare");
}

/** The first hint about a gesture that has not been used yet, once there is a run to use it with. */
function GestureHint({ context }: { readonly context: Context }) {
  const { session, hints, drawers } = context;
  const { store, viewState, traits } = session;
  useReaction(() => {
    const run = store.shown.value;
    if (!viewState.following.value && run && viewState.step.value < run.latest.value) hints.retire("steps");
    if (viewState.region.value) hints.retire("region");
    if (store.previous && run && store.previous.info.prompt !== run.info.prompt) hints.retire("edit");
  }, [context]);
  const run = store.shown.value;
  if (!run || session.busy.value || run.latest.value < 1) return <p class="dv-note" />;
  const canAsk = drawers.isAvailable && session.connected.value;
  const isUseful = { tour: canAsk, steps: true, region: run.hasMaps, edit: traits._can_run.value };
  const name = hints.left.find((hint) => isUseful[hint]);
  if (!name) return <p class="dv-note" />;
  return (
    <p class="dv-note dv-hint" data-testid="hint">
      {name === "tour" ? (
        <Button
          onClick={() => {
            hints.retire("tour");
            session.set({ _tour: 1 });
          }}
        >
          {HINTS[name]}
        </Button>
      ) : (
        <span>{HINTS[name]}</span>
      )}
      <Button aria-label="Hide this hint" title="Hide this hint" onClick={() => hints.retire(name)}>
        <CrossIcon />
      </Button>
    </p>
  );
}
