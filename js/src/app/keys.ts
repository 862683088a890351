// The keys that work anywhere in the widget but in a text field: steps, play, letting words go.

import type { Context } from "../core/context";

const STEPS: Readonly<Record<string, (step: number, shift: boolean) => number>> = {
  ArrowLeft: (step, shift) => step - (shift ? 5 : 1),
  ArrowRight: (step, shift) => step + (shift ? 5 : 1),
  Home: () => 0,
  End: () => 1e9,
};

/** Moves along the steps if `event` is one of the keys for it. */
export function handleStepKey(event: KeyboardEvent, { session, player }: Context): boolean {
  const move = STEPS[event.key];
  if (!move || event.altKey || event.ctrlKey || event.metaKey) return false;
  player.pause();
  session.goTo(move(session.look.step.value, event.shiftKey));
  event.preventDefault();
  return true;
}

function inside(event: KeyboardEvent, selector: string): boolean {
  const target = event.composedPath()[0];
  return target instanceof Element && target.closest(selector) !== null;
}

export function handleKey(event: KeyboardEvent, context: Context): void {
  if (event.defaultPrevented || inside(event, "input, textarea, select")) return;
  if (event.key === "Escape") {
    context.session.look.clear();
  } else if (event.key === " " && !inside(event, "button")) {
    context.player.toggle();
    event.preventDefault();
  } else if (!inside(event, "[data-arrows]")) {
    handleStepKey(event, context);
  }
}
