// What a finger needs besides the gestures of a pointer: it cannot hover, it has no Shift, and it scrolls the page.

import { useRef } from "preact/hooks";

/** How long a finger rests before that counts as holding, in milliseconds, and how far it may stray, in pixels. */
const HOLD_MS = 400;
const SLOP = 10;

export const isTouch = (event: Event): boolean => (event as PointerEvent).pointerType === "touch";

interface Touch {
  readonly x: number;
  readonly y: number;
  readonly timer: ReturnType<typeof setTimeout>;
}

/**
 * Tells tapping and holding from scrolling, on the element that gets these events.
 *
 * @param onHold called while the finger rests.
 * @param onTap called after a short touch.
 */
export function useHold(onHold: (event: PointerEvent) => void, onTap?: (event: PointerEvent) => void) {
  const touch = useRef<Touch | null>(null);
  const end = () => {
    clearTimeout(touch.current?.timer);
    touch.current = null;
  };
  return {
    down: (event: PointerEvent) => {
      end();
      const timer = setTimeout(() => {
        touch.current = null;
        onHold(event);
      }, HOLD_MS);
      touch.current = { x: event.clientX, y: event.clientY, timer };
    },
    move: ({ clientX, clientY }: PointerEvent) => {
      const start = touch.current;
      if (start && Math.hypot(clientX - start.x, clientY - start.y) > SLOP) end();
    },
    up: (event: PointerEvent) => {
      const isTap = touch.current !== null;
      end();
      if (isTap) onTap?.(event);
    },
    end,
  };
}
