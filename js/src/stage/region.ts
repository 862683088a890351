// A region of the image: selected by pointer or by keys, and drawn as the cells that it covers.

import { cells, type Region } from "../core/mapSampling";
import type { Run } from "../core/store";
import type { Point } from "../core/viewState";
import type { ImageBox } from "./stageImage";

export function regionBetween(a: Point, b: Point): Region {
  return { u0: Math.min(a.u, b.u), v0: Math.min(a.v, b.v), u1: Math.max(a.u, b.u), v1: Math.max(a.v, b.v) };
}

const MOVES: Readonly<Record<string, readonly [across: number, down: number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** The region after a key press, moved or resized by a cell; null for other keys. */
export function moveRegion(
  region: Region | null,
  event: KeyboardEvent,
  [h, w]: readonly [h: number, w: number],
): Region | null {
  if (event.key === "Enter") return region ?? regionBetween({ u: 0.5, v: 0.5 }, { u: 0.5, v: 0.5 });
  const move = MOVES[event.key];
  if (!region || !move) return null;
  const [du, dv] = [move[0] / w, move[1] / h];
  const inside = (at: number) => Math.min(1, Math.max(0, at));
  const { u0, v0, u1, v1 } = region;
  const end = { u: inside(u1 + du), v: inside(v1 + dv) };
  return regionBetween(event.shiftKey ? { u: u0, v: v0 } : { u: inside(u0 + du), v: inside(v0 + dv) }, end);
}

export function drawRegion(
  c: CanvasRenderingContext2D,
  { u0, v0, u1, v1 }: Region,
  { info }: Run,
  box: ImageBox,
): void {
  const [h, w] = info.grid;
  const [left, right] = cells(u0, u1, w);
  const [top, bottom] = cells(v0, v1, h);
  for (const [width, colour] of [
    [4, "#000a"],
    [2, "#fff"],
  ] as const) {
    c.lineWidth = (width * box.width) / 400;
    c.strokeStyle = colour;
    c.strokeRect(
      box.x + (left / w) * box.width,
      box.y + (top / h) * box.height,
      ((right - left + 1) / w) * box.width,
      ((bottom - top + 1) / h) * box.height,
    );
  }
}
