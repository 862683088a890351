// The keys that work anywhere in the widget except in a text field: steps, play, and Escape to clear the choice.

import type { Context } from "../core/context";
import { handleStepKey } from "../gestures/stepKeys";

function inside(event: KeyboardEvent, selector: string): boolean {
  const target = event.composedPath()[0];
  return target instanceof Element && target.closest(selector) !== null;
}

export function handleKey(event: KeyboardEvent, context: Context): void {
  if (event.defaultPrevented || inside(event, "input, textarea, select")) return;
  if (event.key === "Escape") {
    // Browsers leave the full screen by themselves, but not where a program presses the key.
    if (document.fullscreenElement && inside(event, ":fullscreen *, :fullscreen")) void document.exitFullscreen();
    else context.session.viewState.clear();
  } else if (event.key === " " && !inside(event, "button")) {
    context.player.toggle();
    event.preventDefault();
  } else if (!inside(event, "[data-arrows]")) {
    handleStepKey(event, context);
  }
}
