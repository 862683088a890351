// Draws one picture of a step into the stage's canvas, once its bitmap is there, and reads its values back.

import { signal } from "@preact/signals";
import { lookup } from "../core/colormap";
import { value } from "../core/format";
import type { ImageCache } from "../core/images";
import type { StepMessage, View } from "../core/protocol";
import type { Point, StageView } from "../core/viewState";
import type { Size } from "../ui/useCanvas";

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

/** How far pixels moved between two pictures, 0..255 as the mean over red, green and blue. */
interface Change {
  readonly coloured: OffscreenCanvas;
  readonly grey: OffscreenCanvas;
  readonly most: number;
}

/** Changes are computed on at most this many pixels a side. */
const CHANGE_SIZE = 256;

export class StagePicture {
  readonly #arrived = signal(0);
  readonly #guidance = lookup("magma");
  readonly #coloured = new WeakMap<ImageBitmap, OffscreenCanvas>();
  readonly #changes = new WeakMap<ImageBitmap, { readonly from: ImageBitmap; readonly change: Change }>();
  readonly #pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  #last: CanvasImageSource | null = null;

  constructor(private readonly images: ImageCache) {}

  /** `muted`: heat maps come on top, so that a picture of values keeps to greys. */
  draw(c: CanvasRenderingContext2D, step: StepMessage, view: View, box: Placed, size: Size, muted: boolean): void {
    const bytes = step.images[view] ?? step.images.prediction;
    if (!bytes) return;
    const bitmap = this.#ready(bytes);
    const isGuidance = view === "guidance" && step.images.guidance && !muted;
    this.#show(c, bitmap && (isGuidance ? this.#colour(bitmap) : bitmap), box, size);
  }

  /** What `step` changed in the prediction of the step `before`. */
  drawChange(
    c: CanvasRenderingContext2D,
    step: StepMessage,
    before: StepMessage | undefined,
    box: Placed,
    size: Size,
    muted: boolean,
  ): void {
    if (!step.images.prediction || !before?.images.prediction) return;
    const change = this.change(step, before);
    this.#show(c, muted ? change?.grey : change?.coloured, box, size);
  }

  /** The change between two steps, once both pictures are decoded. */
  change(step: StepMessage, before: StepMessage | undefined): Change | undefined {
    const [to, from] = [step, before].map((one) => one?.images.prediction && this.#ready(one.images.prediction));
    if (!to || !from) return undefined;
    const known = this.#changes.get(to);
    if (known?.from === from) return known.change;
    const change = this.#subtract(to, from);
    this.#changes.set(to, { from, change });
    return change;
  }

  /** The bitmap if it is decoded; else the drawing that asks is done again once it is. */
  #ready(bytes: Uint8Array): ImageBitmap | undefined {
    const bitmap = this.images.get(bytes);
    if (bitmap) return bitmap;
    this.#arrived.value;
    this.images.load(bytes).then((ready) => {
      if (ready) this.#arrived.value++;
    });
    return undefined;
  }

  // Until a picture is decoded, what was last seen stays: better than a flash of nothing.
  #show(c: CanvasRenderingContext2D, source: ImageBitmap | OffscreenCanvas | undefined, box: Placed, size: Size): void {
    if (source) c.imageSmoothingEnabled = box.width / size.ratio / source.width < SHARP_FROM;
    const shown = source ?? this.#last;
    if (!shown) return;
    this.#last = shown;
    c.imageSmoothingQuality = "high";
    c.drawImage(shown, box.x, box.y, box.width, box.height);
  }

  #subtract(to: ImageBitmap, from: ImageBitmap): Change {
    const scale = Math.min(1, CHANGE_SIZE / Math.max(to.width, to.height));
    const [width, height] = [Math.ceil(to.width * scale), Math.ceil(to.height * scale)];
    const [grey, coloured] = [new OffscreenCanvas(width, height), new OffscreenCanvas(width, height)];
    const [c, out] = [grey.getContext("2d", { willReadFrequently: true }), coloured.getContext("2d")];
    if (!c || !out) return { grey, coloured, most: 0 };
    c.drawImage(to, 0, 0, width, height);
    c.globalCompositeOperation = "difference";
    c.drawImage(from, 0, 0, width, height);
    const image = c.getImageData(0, 0, width, height);
    const { data } = image;
    const moved = Float32Array.from({ length: width * height }, (_, i) => {
      return ((data[4 * i] as number) + (data[4 * i + 1] as number) + (data[4 * i + 2] as number)) / 3;
    });
    const most = moved.reduce((a, b) => Math.max(a, b), 0);
    const pixels = new Uint32Array(data.buffer);
    const paint = (colour: (level: number) => number, target: OffscreenCanvasRenderingContext2D) => {
      moved.forEach((value, i) => {
        pixels[i] = colour(Math.round((value / Math.max(most, 1e-6)) * 255));
      });
      target.putImageData(image, 0, 0);
    };
    paint((level) => this.#guidance[level] as number, out);
    paint((level) => (0xff000000 | (level * 0x10101)) >>> 0, c);
    return { grey, coloured, most };
  }

  /** What the picture says at a point: the strength of guidance or of the change, else the colour. */
  read(point: Point, step: StepMessage, view: StageView, before: StepMessage | undefined): string {
    if (view === "change") {
      const change = this.change(step, before);
      return change ? `change ${value((this.#at(change.grey, point)[0] / 255) * change.most)} of 255` : "";
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
