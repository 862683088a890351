// The place under the pointer, the same on the stage and on every map.

import type { Look, Point } from "../core/viewState";
import { place } from "./stageImage";

/** Where the pointer is in a picture of [h, w] that lies in `bounds`; null beside it. */
export function pointIn(bounds: DOMRect, event: PointerEvent, image: readonly [number, number]): Point | null {
  const box = place(image, { width: bounds.width, height: bounds.height, ratio: 1 });
  const u = (event.clientX - bounds.left - box.x) / box.width;
  const v = (event.clientY - bounds.top - box.y) / box.height;
  return u >= 0 && u < 1 && v >= 0 && v < 1 ? { u, v } : null;
}

interface Props {
  readonly look: Look;
  readonly image: readonly [h: number, w: number];
}

/** A ring at that place, in a square frame that shows a picture of [h, w]. */
export function Probe({ look, image }: Props) {
  const probe = look.probe.value;
  if (!probe) return null;
  const box = place(image, { width: 100, height: 100, ratio: 1 });
  const left = `${box.x + probe.u * box.width}%`;
  const top = `${box.y + probe.v * box.height}%`;
  return <i class="dv-probe" aria-hidden="true" style={{ left, top }} />;
}
