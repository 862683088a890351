// One tab stop for a row of buttons: the arrow keys move inside it (a "roving" tab index).

import { useSignal } from "@preact/signals";

const MOVES: Readonly<Record<string, number>> = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };

export interface RovingFocus {
  /** The tab index of the button at `position`. */
  tabIndex(position: number): 0 | -1;
  onFocusIn(event: FocusEvent): void;
  onKeyDown(event: KeyboardEvent): void;
}

/** For a container marked `data-arrows` with `count` buttons that carry `data-stop`. */
export function useRovingFocus(count: number): RovingFocus {
  const at = useSignal(0);
  const stops = (event: Event) => [
    ...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>("[data-stop]:not(:disabled)"),
  ];
  return {
    tabIndex: (position) => (position === Math.min(at.value, count - 1) ? 0 : -1),
    onFocusIn(event) {
      const position = stops(event).indexOf(event.target as HTMLElement);
      if (position >= 0) at.value = position;
    },
    onKeyDown(event) {
      const all = stops(event);
      const now = all.indexOf(event.target as HTMLElement);
      const move = MOVES[event.key];
      const next =
        event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : move === undefined ? -1 : now + move;
      if (now < 0 || next === -1 || !all[next]) return;
      all[next].focus();
      event.preventDefault();
    },
  };
}
