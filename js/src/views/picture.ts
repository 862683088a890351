// Draws one picture of a step into the stage's canvas, once its bitmap is there, and reads its values back.

import { signal } from "@preact/signals";
import { lookup } from "../core/colormap";
import { value } from "../core/format";
import type { ImageCache } from "../core/images";
import type { Point } from "../core/look";
import type { StepMessage, View } from "../core/protocol";
import type { Size } from "./canvas";

/** Where a picture lies in its frame, in the canvas's pixels. */
export interface Placed {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A picture that is shown larger than this shows its own pixels instead of a blur. */
const SHARP_FROM = 8;

/** A picture of [h, w], as large as fits into the frame, centred. */
export function place([h, w]: readonly [number, number], size: Size): Placed {
  const fullWidth = size.width * size.ratio;
  const fullHeight = size.height * size.ratio;
  const scale = Math.min(fullWidth / Math.max(1, w), fullHeight / Math.max(1, h));
  const width = w * scale;
  const height = h * scale;
  return { x: (fullWidth - width) / 2, y: (fullHeight - height) / 2, width, height };
}

export class StagePicture {
  readonly #arrived = signal(0);
  readonly #guidance = lookup("magma");
  readonly #coloured = new WeakMap<ImageBitmap, OffscreenCanvas>();
  readonly #pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  #last: CanvasImageSource | null = null;

  constructor(private readonly images: ImageCache) {}

  /** `muted`: heat maps come on top, so that a picture of values keeps to greys. */
  draw(c: CanvasRenderingContext2D, step: StepMessage, view: View, box: Placed, size: Size, muted: boolean): void {
    const bytes = step.images[view] ?? step.images.prediction;
    if (!bytes) return;
    let source: CanvasImageSource | undefined;
    const bitmap = this.images.get(bytes);
    if (bitmap) {
      source = view === "guidance" && step.images.guidance && !muted ? this.#colour(bitmap) : bitmap;
      c.imageSmoothingEnabled = box.width / size.ratio / bitmap.width < SHARP_FROM;
    } else {
      // Until it is decoded, what was last seen stays: better than a flash of nothing.
      this.#arrived.value;
      this.images.load(bytes).then((ready) => {
        if (ready) this.#arrived.value++;
      });
      source = this.#last ?? undefined;
    }
    if (!source) return;
    this.#last = source;
    c.imageSmoothingQuality = "high";
    c.drawImage(source, box.x, box.y, box.width, box.height);
  }

  /** What the picture says at a point: the strength of guidance, else the colour. */
  read(point: Point, step: StepMessage, view: View): string {
    const bytes = step.images[view];
    const bitmap = bytes && this.images.get(bytes);
    if (!bitmap || !this.#pixel) return "";
    const x = Math.floor(point.u * bitmap.width);
    const y = Math.floor(point.v * bitmap.height);
    this.#pixel.drawImage(bitmap, x, y, 1, 1, 0, 0, 1, 1);
    const [r = 0, g = 0, b = 0] = this.#pixel.getImageData(0, 0, 1, 1).data;
    if (view === "guidance" && step.guidanceRange) {
      const [lo, hi] = step.guidanceRange;
      return `guidance ${value(lo + (r / 255) * (hi - lo))}`;
    }
    return `rgb ${r} ${g} ${b}`;
  }

  #colour(bitmap: ImageBitmap): CanvasImageSource {
    const known = this.#coloured.get(bitmap);
    if (known) return known;
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const c = canvas.getContext("2d");
    if (!c) return bitmap;
    c.drawImage(bitmap, 0, 0);
    const data = c.getImageData(0, 0, bitmap.width, bitmap.height);
    const pixels = new Uint32Array(data.data.buffer);
    for (let i = 0; i < pixels.length; i++) pixels[i] = this.#guidance[(pixels[i] ?? 0) & 255] ?? 0;
    c.putImageData(data, 0, 0);
    this.#coloured.set(bitmap, canvas);
    return canvas;
  }
}
