// The keys that move along the steps: arrow keys, with Shift five at a time, Home and End.

import type { Context } from "../core/context";

const MOVES: Readonly<Record<string, (step: number, shift: boolean) => number>> = {
  ArrowLeft: (step, shift) => step - (shift ? 5 : 1),
  ArrowRight: (step, shift) => step + (shift ? 5 : 1),
  Home: () => 0,
  End: () => 1e9,
};

/** Moves along the steps; false if `event` is not one of the keys for it. */
export function handleStepKey(event: KeyboardEvent, { session, player }: Context): boolean {
  const move = MOVES[event.key];
  if (!move || event.altKey || event.ctrlKey || event.metaKey) return false;
  player.pause();
  // The last step of a run that goes on is the newest one, as it arrives.
  if (event.key === "End" && session.busy.value) session.follow();
  else session.goTo(move(session.viewState.step.value, event.shiftKey));
  event.preventDefault();
  return true;
}
