// Small canvases are painted in animation frames, and no more at a time than a frame has room for: many heat maps arrive
// with one step, and painting all of them at once would block the page.

/** Milliseconds of a frame. */
const BUDGET = 8;

const waiting = new Map<HTMLCanvasElement, () => void>();

/** Paints a canvas soon; of several requests for one canvas only the latest counts. */
export function paintSoon(canvas: HTMLCanvasElement, paint: () => void): void {
  if (waiting.size === 0) requestAnimationFrame(paintWaiting);
  waiting.set(canvas, paint);
}

function paintWaiting(): void {
  const end = performance.now() + BUDGET;
  for (const [canvas, paint] of waiting) {
    waiting.delete(canvas);
    paint();
    if (performance.now() >= end) break;
  }
  if (waiting.size > 0) requestAnimationFrame(paintWaiting);
}
