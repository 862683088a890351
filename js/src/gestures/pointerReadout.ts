// Shows what is under the pointer in the line under the prompt, and goes to the step under a click, for elements whose
// width spans the steps of a run.

import { useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { isTouch } from "./touch";

/** Event handlers that show `textAt(step)` while the pointer is over the element. */
export function usePointerReadout(context: Context, textAt: (step: number) => string) {
  const { session, player, hint } = context;
  const isShown = useRef(false);
  const stepUnder = (event: MouseEvent): number => {
    const { left, width } = (event.currentTarget as Element).getBoundingClientRect();
    const length = session.store.shown.value?.length ?? 1;
    return Math.min(length - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * length)));
  };
  const clear = () => {
    if (isShown.current) hint.value = "";
    isShown.current = false;
  };
  const read = (event: PointerEvent) => {
    hint.value = textAt(stepUnder(event));
    isShown.current = true;
  };
  return {
    onPointerDown: read,
    onPointerMove: read,
    onPointerLeave: (event: PointerEvent) => {
      // What a finger has read stays until the next tap.
      if (isTouch(event)) document.addEventListener("pointerdown", clear, { once: true, capture: true, passive: true });
      else clear();
    },
    onClick: (event: MouseEvent) => {
      player.pause();
      session.goTo(stepUnder(event));
    },
  };
}
