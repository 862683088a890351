// Draws an image of a step into a canvas once its bitmap is decoded, and reads its values back.

import { signal } from "@preact/signals";
import { lookup } from "../core/colormap";
import { value } from "../core/format";
import type { ImageCache } from "../core/images";
import type { StepMessage, View } from "../core/protocol";
import type { Point, StageView } from "../core/viewState";
import type { Size } from "../ui/useCanvas";

/** The rectangle of an image in its frame, in the canvas's pixels. */
export interface ImageBox {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** The largest centred rectangle for an image of [h, w] in a frame. */
export function fitImage([h, w]: readonly [number, number], size: Size): ImageBox {
  const fullWidth = size.width * size.ratio;
  const fullHeight = size.height * size.ratio;
  const scale = Math.min(fullWidth / Math.max(1, w), fullHeight / Math.max(1, h));
  const width = w * scale;
  const height = h * scale;
  return { x: (fullWidth - width) / 2, y: (fullHeight - height) / 2, width, height };
}

/** The per-pixel difference of two images, 0..255, mean over red, green and blue. */
interface Change {
  readonly coloured: OffscreenCanvas;
  readonly grey: OffscreenCanvas;
  readonly max: number;
}

/** Changes are computed on at most this many pixels a side. */
const CHANGE_SIZE = 256;

export class StageImage {
  readonly #arrived = signal(0);
  readonly #guidance = lookup("magma");
  readonly #coloured = new WeakMap<ImageBitmap, OffscreenCanvas>();
  readonly #changes = new WeakMap<ImageBitmap, { readonly from: ImageBitmap; readonly change: Change }>();
  readonly #pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  #last: CanvasImageSource | null = null;

  constructor(private readonly images: ImageCache) {}

  /** `muted`: heat maps are drawn on top, so that images of values stay grey. */
  draw(c: CanvasRenderingContext2D, step: StepMessage, view: View, box: ImageBox, muted: boolean): void {
    const bytes = step.images[view] ?? step.images.prediction;
    if (!bytes) return;
    const bitmap = this.#ready(bytes);
    const isGuidance = view === "guidance" && step.images.guidance && !muted;
    this.#show(c, bitmap && (isGuidance ? this.#colour(bitmap) : bitmap), box);
  }

  /** What `step` changed in the prediction of the step `before`. */
  drawChange(
    c: CanvasRenderingContext2D,
    step: StepMessage,
    before: StepMessage | undefined,
    box: ImageBox,
    muted: boolean,
  ): void {
    if (!step.images.prediction || !before?.images.prediction) return;
    const change = this.change(step, before);
    this.#show(c, muted ? change?.grey : change?.coloured, box);
  }

  /** The change between two steps, once both images are decoded. */
  change(step: StepMessage, before: StepMessage | undefined): Change | undefined {
    const [to, from] = [step, before].map(
      (message) => message?.images.prediction && this.#ready(message.images.prediction),
    );
    if (!to || !from) return undefined;
    const cached = this.#changes.get(to);
    if (cached?.from === from) return cached.change;
    const change = this.#subtract(to, from);
    this.#changes.set(to, { from, change });
    return change;
  }

  /** The bitmap if it is decoded; else the drawing is repeated once it is. */
  #ready(bytes: Uint8Array): ImageBitmap | undefined {
    const bitmap = this.images.get(bytes);
    if (bitmap) return bitmap;
    this.#arrived.value;
    this.images.load(bytes).then((ready) => {
      if (ready) this.#arrived.value++;
    });
    return undefined;
  }

  // Until an image is decoded, the last one stays, which avoids flicker. A preview of few pixels is smooth, as the image is.
  #show(c: CanvasRenderingContext2D, source: ImageBitmap | OffscreenCanvas | undefined, box: ImageBox): void {
    const shown = source ?? this.#last;
    if (!shown) return;
    this.#last = shown;
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    c.drawImage(shown, box.x, box.y, box.width, box.height);
  }

  #subtract(to: ImageBitmap, from: ImageBitmap): Change {
    const scale = Math.min(1, CHANGE_SIZE / Math.max(to.width, to.height));
    const [width, height] = [Math.ceil(to.width * scale), Math.ceil(to.height * scale)];
    const [grey, coloured] = [new OffscreenCanvas(width, height), new OffscreenCanvas(width, height)];
    const [c, out] = [grey.getContext("2d", { willReadFrequently: true }), coloured.getContext("2d")];
    if (!c || !out) return { grey, coloured, max: 0 };
    c.drawImage(to, 0, 0, width, height);
    c.globalCompositeOperation = "difference";
    c.drawImage(from, 0, 0, width, height);
    const image = c.getImageData(0, 0, width, height);
    const { data } = image;
    const differences = Float32Array.from({ length: width * height }, (_, i) => {
      return ((data[4 * i] as number) + (data[4 * i + 1] as number) + (data[4 * i + 2] as number)) / 3;
    });
    const max = differences.reduce((a, b) => Math.max(a, b), 0);
    const pixels = new Uint32Array(data.buffer);
    const paint = (colour: (level: number) => number, target: OffscreenCanvasRenderingContext2D) => {
      differences.forEach((value, i) => {
        pixels[i] = colour(Math.round((value / Math.max(max, 1e-6)) * 255));
      });
      target.putImageData(image, 0, 0);
    };
    paint((level) => this.#guidance[level] as number, out);
    paint((level) => (0xff000000 | (level * 0x10101)) >>> 0, c);
    return { grey, coloured, max };
  }

  /** The value of the image at a point: the strength of guidance or of the change, else the colour. */
  read(point: Point, step: StepMessage, view: StageView, before: StepMessage | undefined): string {
    if (view === "change") {
      const change = this.change(step, before);
      return change ? `change ${value((this.#at(change.grey, point)[0] / 255) * change.max)} of 255` : "";
    }
    const bytes = step.images[view];
    const bitmap = bytes && this.images.get(bytes);
    if (!bitmap) return "";
    const [r, g, b] = this.#at(bitmap, point);
    if (view === "guidance" && step.guidance_range) {
      const [lo, hi] = step.guidance_range;
      return `guidance ${value(lo + (r / 255) * (hi - lo))}`;
    }
    return `rgb ${r} ${g} ${b}`;
  }

  #at(source: ImageBitmap | OffscreenCanvas, { u, v }: Point): readonly [r: number, g: number, b: number] {
    const c = this.#pixel;
    if (!c) return [0, 0, 0];
    c.drawImage(source, Math.floor(u * source.width), Math.floor(v * source.height), 1, 1, 0, 0, 1, 1);
    const [r = 0, g = 0, b = 0] = c.getImageData(0, 0, 1, 1).data;
    return [r, g, b];
  }

  #colour(bitmap: ImageBitmap): ImageBitmap | OffscreenCanvas {
    const cached = this.#coloured.get(bitmap);
    if (cached) return cached;
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
