// Choosing a word, the same for every button that stands for one: hover or focus previews its map, a click chooses the
// word, a Shift-click adds it to the chosen ones.

import type { ViewState } from "../core/viewState";

export function wordEvents(viewState: ViewState, index: number) {
  const leave = () => {
    viewState.hovered.value = null;
  };
  const enter = () => {
    viewState.hovered.value = index;
  };
  return {
    onPointerEnter: enter,
    onPointerLeave: leave,
    onFocus: (event: FocusEvent) => {
      if ((event.currentTarget as HTMLElement).matches(":focus-visible")) enter();
    },
    onBlur: leave,
    onClick: (event: MouseEvent) => viewState.pin(index, event.shiftKey),
    // Browsers turn Enter into a click, but into one without Shift.
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      viewState.pin(index, true);
      event.preventDefault();
    },
  };
}

export type WordEvents = ReturnType<typeof wordEvents>;
