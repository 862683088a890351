// Heat maps over the picture: one word in the scale's colours, several each in a colour of its own.

import { hue, lookup } from "../core/colormap";
import { Resampler, rescale, sharedRange } from "../core/field";
import type { Look } from "../core/look";
import type { Range, StepMessage } from "../core/protocol";
import type { Run } from "../core/store";
import type { Placed } from "./picture";

const RASTER = 128;

/** The range of values that a word's colours span: its own at this step, or one for all words and steps. */
export function rangeOf(run: Run, step: StepMessage, word: number, shared: boolean): Range | null {
  return shared ? runRange(run) : (step.maps.scales[word] ?? null);
}

const RANGES = Symbol("ranges");
type Cached = Run & { [RANGES]?: { readonly revision: object; readonly range: Range | null } };

/** One range for the words of a run over all its steps; special tokens would drown them. */
function runRange(run: Cached): Range | null {
  const revision = run.revision.value;
  const cached = run[RANGES];
  if (cached?.revision === revision) return cached.range;
  const words = run.info.words.flatMap((word, i) => (word.kind === "word" ? [i] : []));
  const scales = run.steps.flatMap((step) => (step ? words.map((word) => step.maps.scales[word]) : []));
  const range = sharedRange(scales);
  run[RANGES] = { revision, range };
  return range;
}

export class Overlay {
  readonly #raster = new Resampler(RASTER, RASTER);
  readonly #colours = lookup("viridis");
  readonly #canvas = new OffscreenCanvas(RASTER, RASTER);
  readonly #context = this.#canvas.getContext("2d");
  readonly #image = new ImageData(RASTER, RASTER);
  readonly #pixels = new Uint32Array(this.#image.data.buffer);

  draw(
    c: CanvasRenderingContext2D,
    run: Run,
    step: StepMessage,
    words: readonly number[],
    look: Look,
    box: Placed,
  ): void {
    if (!this.#context) return;
    const drawn =
      words.length === 1 ? this.#one(run, step, words[0] ?? 0, look) : this.#several(run, step, words, look);
    if (!drawn) return;
    this.#context.putImageData(this.#image, 0, 0);
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    c.drawImage(this.#canvas, box.x, box.y, box.width, box.height);
  }

  #field(
    run: Run,
    step: StepMessage,
    word: number,
    look: Look,
  ): { values: Float32Array; factor: number; offset: number } | null {
    const own = step.maps.scales[word];
    const range = rangeOf(run, step, word, look.shared.value);
    if (!own || !range) return null;
    const [factor, offset] = rescale(own, range);
    return { values: this.#raster.resample(step.maps, word), factor, offset };
  }

  #one(run: Run, step: StepMessage, word: number, look: Look): boolean {
    const field = this.#field(run, step, word, look);
    if (!field) return false;
    const alpha = Math.round(look.opacity.value * 255) << 24;
    for (let i = 0; i < this.#pixels.length; i++) {
      const level = Math.min(255, Math.max(0, ((field.values[i] ?? 0) * field.factor + field.offset) | 0));
      this.#pixels[i] = (((this.#colours[level] ?? 0) & 0xffffff) | alpha) >>> 0;
    }
    return true;
  }

  // Each word covers as much as its value says; where words meet, their colours mix by weight, in any order alike.
  #several(run: Run, step: StepMessage, words: readonly number[], look: Look): boolean {
    const n = this.#pixels.length;
    const sums = new Float32Array(n * 4);
    const opacity = look.opacity.value;
    let any = false;
    words.forEach((word, position) => {
      const field = this.#field(run, step, word, look);
      if (!field) return;
      any = true;
      const [r, g, b] = hue(position);
      for (let i = 0; i < n; i++) {
        const level = Math.min(1, Math.max(0, ((field.values[i] ?? 0) * field.factor + field.offset) / 255)) * opacity;
        const at = i * 4;
        sums[at] = (sums[at] ?? 0) + level * r;
        sums[at + 1] = (sums[at + 1] ?? 0) + level * g;
        sums[at + 2] = (sums[at + 2] ?? 0) + level * b;
        sums[at + 3] = (sums[at + 3] ?? 0) + level;
      }
    });
    for (let i = 0; i < n; i++) {
      const at = i * 4;
      const weight = sums[at + 3] ?? 0;
      if (weight <= 0) {
        this.#pixels[i] = 0;
        continue;
      }
      const r = (sums[at] ?? 0) / weight;
      const g = (sums[at + 1] ?? 0) / weight;
      const b = (sums[at + 2] ?? 0) / weight;
      this.#pixels[i] = (((Math.min(1, weight) * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
    }
    return any;
  }
}
