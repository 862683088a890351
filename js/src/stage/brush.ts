// Selecting a region of the image: click or drag with a mouse or a pen; tap with a finger, or hold it and then drag. A
// finger that moves at once scrolls the page up and down, or reads the image from side to side.

import { useLayoutEffect, useRef } from "preact/hooks";
import type { Session } from "../core/session";
import type { Point } from "../core/viewState";
import { isTouch, useHold } from "../gestures/touch";
import { pointIn } from "./Probe";
import { regionBetween } from "./region";

/** Event handlers for the frame of the image, and its ref. */
export function useBrush({ store, viewState }: Session) {
  const frame = useRef<HTMLDivElement>(null);
  /** The corner of the region that is being drawn. */
  const corner = useRef<Point | null>(null);

  const pointOf = (event: PointerEvent): Point | null => {
    const run = store.shown.value;
    return run && frame.current && pointIn(frame.current.getBoundingClientRect(), event, run.info.image);
  };
  const begin = (event: PointerEvent) => {
    const point = pointOf(event);
    if (!point) return;
    frame.current?.setPointerCapture(event.pointerId);
    corner.current = point;
    viewState.region.value = regionBetween(point, point);
  };
  const hold = useHold(begin, (event) => {
    const point = pointOf(event);
    if (point) viewState.region.value = regionBetween(point, point);
  });
  const end = () => {
    corner.current = null;
    hold.end();
  };

  // Only a listener that is not passive can keep the page from scrolling once a region is being drawn.
  useLayoutEffect(() => {
    const element = frame.current;
    const keep = (event: TouchEvent) => {
      if (corner.current) event.preventDefault();
    };
    element?.addEventListener("touchmove", keep, { passive: false });
    return () => {
      end();
      element?.removeEventListener("touchmove", keep);
    };
  }, []);

  return {
    ref: frame,
    onPointerDown: (event: PointerEvent) => {
      if (event.button !== 0 || !(event.target instanceof HTMLCanvasElement)) return;
      const hasMaps = store.shown.value?.hasMaps;
      if (isTouch(event)) {
        viewState.probe.value = pointOf(event);
        if (hasMaps) hold.down(event);
      } else if (hasMaps) begin(event);
    },
    onPointerMove: (event: PointerEvent) => {
      hold.move(event);
      const point = pointOf(event);
      viewState.probe.value = point;
      if (corner.current && point) viewState.region.value = regionBetween(corner.current, point);
    },
    onPointerUp: hold.up,
    onPointerCancel: (event: PointerEvent) => {
      // The page scrolls: nothing was to be read.
      if (isTouch(event)) viewState.probe.value = null;
      end();
    },
    onLostPointerCapture: end,
    onPointerLeave: (event: PointerEvent) => {
      // What a finger has read stays until it taps elsewhere.
      if (!isTouch(event)) viewState.probe.value = null;
    },
    onContextMenu: (event: Event) => {
      if (isTouch(event)) event.preventDefault();
    },
  };
}
