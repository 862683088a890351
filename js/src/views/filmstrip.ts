// The frames of a run side by side. Thumbnails are cached, so that moving or resizing decodes nothing again.

import { signal } from "@preact/signals";
import type { ImageCache } from "../core/images";
import type { StepMessage } from "../core/protocol";
import type { Run } from "../core/store";
import type { Size } from "../ui/useCanvas";

const THUMB = 128;
const WIDER = 1.2;
/** Small images are their own thumbnails. */
type Thumb = OffscreenCanvas | ImageBitmap;

export class Filmstrip {
  readonly #arrived = signal(0);
  readonly #thumbs = new WeakMap<Uint8Array, Thumb>();
  /** The thumbnails drawn last, by step of the run: shown until the image that replaces one is decoded. */
  #drawn = new Map<number, Thumb>();
  #run: Run | null = null;
  #waiting = false;

  constructor(private readonly images: ImageCache) {}

  draw(c: CanvasRenderingContext2D, size: Size, run: Run | null): void {
    const { width, height } = c.canvas;
    c.clearRect(0, 0, width, height);
    this.#follow(run);
    if (!run) return;
    this.#arrived.value;
    run.revision.value;
    const length = run.length;
    // As many whole frames as fit, at most one per step.
    const [h, w] = run.info.image;
    const frame = size.height * Math.max(0.3, w / Math.max(1, h));
    const slots = Math.max(1, Math.min(length, Math.round(size.width / frame)));
    for (let slot = 0; slot < slots; slot++) {
      const first = Math.floor((slot * length) / slots);
      const past = Math.floor(((slot + 1) * length) / slots);
      const middle = Math.floor((first + past - 1) / 2);
      let step = run.steps[middle];
      for (let i = first; !step && i < past; i++) step = run.steps[i];
      const left = Math.round((slot * width) / slots);
      const right = Math.round(((slot + 1) * width) / slots);
      this.#place(c, run.atFrame(step), left, right - left, height);
    }
  }

  drawLens(c: CanvasRenderingContext2D, run: Run | null, step: StepMessage | undefined): void {
    this.#follow(run);
    this.#arrived.value;
    this.#place(c, step, 0, c.canvas.width, c.canvas.height);
  }

  #follow(run: Run | null): void {
    if (run !== this.#run) this.#drawn = new Map();
    this.#run = run;
  }

  /** Draws a frame in its cell, as high as the strip; it is cropped only where the cell is narrower. */
  #place(c: CanvasRenderingContext2D, step: StepMessage | undefined, x: number, width: number, height: number): void {
    const bytes = step?.images.prediction ?? step?.images.latents;
    if (!step || !bytes) return;
    const thumb = this.#thumb(bytes) ?? this.#drawn.get(step.index);
    if (!thumb) return;
    this.#drawn.set(step.index, thumb);
    const fitting = height / thumb.height;
    // A cell that is a little wider than its frame is filled by a slightly larger frame, without a seam.
    const covering = width / thumb.width;
    const scale = covering > fitting && covering < WIDER * fitting ? covering : fitting;
    const w = Math.min(thumb.width, width / scale);
    const h = height / scale;
    c.imageSmoothingQuality = "high";
    c.clearRect(x, 0, width, height);
    if (thumb.width * scale < width) {
      // A cell wider than its frame is filled by the frame's middle, faintly.
      const crop = Math.min(thumb.height, (height / width) * thumb.width);
      c.globalAlpha = 0.35;
      c.drawImage(thumb, 0, (thumb.height - crop) / 2, thumb.width, crop, x, 0, width, height);
      c.globalAlpha = 1;
    }
    const left = x + (width - w * scale) / 2;
    c.drawImage(thumb, (thumb.width - w) / 2, (thumb.height - h) / 2, w, h, left, 0, w * scale, height);
  }

  #thumb(bytes: Uint8Array): Thumb | undefined {
    const cached = this.#thumbs.get(bytes);
    if (cached) return cached;
    const bitmap = this.images.get(bytes);
    if (!bitmap) {
      this.images.load(bytes).then((ready) => {
        // Frames that arrive together are drawn together.
        if (!ready || this.#waiting) return;
        this.#waiting = true;
        requestAnimationFrame(() => {
          this.#waiting = false;
          this.#arrived.value++;
        });
      });
      return undefined;
    }
    const scale = THUMB / Math.min(bitmap.width, bitmap.height);
    if (scale >= 1) return bitmap;
    const thumb = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
    const c = thumb.getContext("2d");
    if (!c) return undefined;
    c.imageSmoothingQuality = "high";
    c.drawImage(bitmap, 0, 0, thumb.width, thumb.height);
    this.#thumbs.set(bytes, thumb);
    return thumb;
  }
}
