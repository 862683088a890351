// What every button that stands for a word does: hover and focus look, click keeps, shift-click adds.

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
    // Browsers make a click of Enter, but one without Shift.
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      look.pin(index, true);
      event.preventDefault();
    },
  };
}
