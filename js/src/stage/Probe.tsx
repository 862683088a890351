// The point under the pointer, shown on the stage and on every heat map.

import type { Point, ViewState } from "../core/viewState";
import { fitImage } from "./stageImage";

/** The point of an image of [h, w] under the pointer; null outside the image. `bounds`: the frame of the image. */
export function pointIn(bounds: DOMRect, event: PointerEvent, image: readonly [number, number]): Point | null {
  const box = fitImage(image, { width: bounds.width, height: bounds.height, ratio: 1 });
  const u = (event.clientX - bounds.left - box.x) / box.width;
  const v = (event.clientY - bounds.top - box.y) / box.height;
  return u >= 0 && u < 1 && v >= 0 && v < 1 ? { u, v } : null;
}

interface Props {
  readonly viewState: ViewState;
  readonly image: readonly [h: number, w: number];
}

/** A ring at that point, in a square frame with an image of [h, w]. */
export function Probe({ viewState, image }: Props) {
  const probe = viewState.probe.value;
  if (!probe) return null;
  const box = fitImage(image, { width: 100, height: 100, ratio: 1 });
  const left = `${box.x + probe.u * box.width}%`;
  const top = `${box.y + probe.v * box.height}%`;
  return <i class="dv-probe" aria-hidden="true" style={{ left, top }} />;
}
