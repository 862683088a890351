// Choosing a word, the same for every button that stands for one: hover or focus previews its map, a click chooses the
// word, a Shift-click adds it to the chosen ones.

import type { Look } from "../core/viewState";

export function wordEvents(look: Look, index: number) {
  const leave = () => {
    look.hovered.value = null;
  };
  const enter = () => {
    look.hovered.value = index;
  };
  return {
    onPointerEnter: enter,
    onPointerLeave: leave,
    onFocus: (event: FocusEvent) => {
      if ((event.currentTarget as HTMLElement).matches(":focus-visible")) enter();
    },
    onBlur: leave,
    onClick: (event: MouseEvent) => look.pin(index, event.shiftKey),
    // Browsers turn Enter into a click, but into one without Shift.
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      look.pin(index, true);
      event.preventDefault();
    },
  };
}

export type WordEvents = ReturnType<typeof wordEvents>;
