// Heat maps over the image: a single word in the colour map, several words each in a colour of its own.

import { colourAt, css, FADE, lookup, type Rgb } from "../core/colormap";
import { type MapKind, withMaps } from "../core/mapKind";
import { Resampler, rescale, sharedRange } from "../core/mapSampling";
import type { Range, StepMessage } from "../core/protocol";
import type { Run } from "../core/store";
import type { ViewState } from "../core/viewState";
import { coloursOfWords } from "../core/wordLabels";
import { trace } from "./contours";
import type { ImageBox } from "./stageImage";

const RASTER = 128;
/** Of 0..255, the level on the contour of a map: the middle of its colour bar. */
const CONTOUR_LEVEL = 127.5;
/** The larger, the sharper the border between the colours of words that overlap. */
const WINNING = 16;

/** The range of a word's colours: that of its map at this step, or one for all words and steps. */
export function rangeOf(run: Run, step: StepMessage, word: number, shared: boolean): Range | null {
  if (!shared || !run.info.words[word]) return step.maps.scales[word] ?? null;
  return runRange(run, step.maps === run.steps[step.index]?.refined ? "refined" : "probability");
}

const RANGES = Symbol("ranges");
type Cached = Run & { [RANGES]?: { readonly key: string; readonly range: Range | null } };

/** One range for the words of a run over all steps; special tokens would dominate it. */
function runRange(run: Cached, kind: MapKind): Range | null {
  const key = `${kind} ${run.revision.value}`;
  const cached = run[RANGES];
  if (cached?.key === key) return cached.range;
  const words = run.info.words.flatMap((word, i) => (word.kind === "word" ? [i] : []));
  const scales = run.steps.flatMap((step) => (step ? words.map((word) => withMaps(step, kind).maps.scales[word]) : []));
  const range = sharedRange(scales);
  run[RANGES] = { key, range };
  return range;
}

function fadeOf(level: number): number {
  return FADE[level < 0 ? 0 : level > 255 ? 255 : Math.round(level)] as number;
}

export class Overlay {
  readonly #raster = new Resampler(RASTER, RASTER);
  readonly #colours = lookup("viridis");
  readonly #canvas = new OffscreenCanvas(RASTER, RASTER);
  readonly #context = this.#canvas.getContext("2d");
  readonly #grey = new OffscreenCanvas(RASTER, RASTER).getContext("2d") as OffscreenCanvasRenderingContext2D;
  readonly #image = new ImageData(RASTER, RASTER);
  /** Of each pixel red, green, blue, their weight, and the opacity. */
  readonly #sums = new Float32Array(RASTER * RASTER * 5);
  readonly #pixels = new Uint32Array(this.#image.data.buffer);
  /** Of each word that is drawn, in cells of the raster. */
  readonly #contours = new Map<number, Path2D>();

  draw(
    c: CanvasRenderingContext2D,
    run: Run,
    step: StepMessage,
    words: readonly number[],
    viewState: ViewState,
    box: ImageBox,
  ): void {
    if (!this.#context) return;
    this.#contours.clear();
    const drawn =
      words.length === 1
        ? this.#drawSingle(run, step, words[0] ?? 0, viewState)
        : this.#drawSeveral(run, step, words, viewState);
    if (!drawn) return;
    this.#context.putImageData(this.#image, 0, 0);
    this.#grey.globalCompositeOperation = "copy";
    this.#grey.drawImage(this.#canvas, 0, 0);
    this.#grey.globalCompositeOperation = "source-in";
    this.#grey.fillRect(0, 0, RASTER, RASTER);
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    // Under a map the image is grey: mixed with its colours, those of the map would be others than in the colour bar.
    c.globalCompositeOperation = "saturation";
    c.drawImage(this.#grey.canvas, box.x, box.y, box.width, box.height);
    c.globalCompositeOperation = "source-over";
    c.drawImage(this.#canvas, box.x, box.y, box.width, box.height);
    if (viewState.contours.value) this.#drawContours(c, run, words, box);
  }

  #drawContours(c: CanvasRenderingContext2D, run: Run, words: readonly number[], box: ImageBox): void {
    const colours = coloursOfWords(run.info.words, words);
    const transform = new DOMMatrix([box.width / RASTER, 0, 0, box.height / RASTER, box.x, box.y]);
    words.forEach((word, position) => {
      const line = this.#contours.get(word);
      if (!line) return;
      const placed = new Path2D();
      placed.addPath(line, transform);
      // A light line on a dark one is visible on any background.
      for (const [width, colour] of [
        [3, "#0008"],
        [1.25, words.length > 1 ? css(colours[position] as Rgb) : "#fff"],
      ] as const) {
        c.lineWidth = (width * box.width) / 350;
        c.strokeStyle = colour;
        c.stroke(placed);
      }
    });
  }

  #field(
    run: Run,
    step: StepMessage,
    word: number,
    viewState: ViewState,
  ): { values: Float32Array; factor: number; offset: number } | null {
    const scale = step.maps.scales[word];
    const range = rangeOf(run, step, word, viewState.sharedScale.value);
    if (!scale || !range) return null;
    const [factor, offset] = rescale(scale, range);
    const values = this.#raster.resample(step.maps, word); // the next word's take their place
    if (viewState.contours.value && factor > 0) {
      const line = new Path2D();
      trace(line, values, RASTER, (CONTOUR_LEVEL - offset) / factor);
      this.#contours.set(word, line);
    }
    return { values, factor, offset };
  }

  #drawSingle(run: Run, step: StepMessage, word: number, viewState: ViewState): boolean {
    const field = this.#field(run, step, word, viewState);
    if (!field) return false;
    const { values, factor, offset } = field;
    const opacity = viewState.opacity.value * 255;
    for (let i = 0; i < values.length; i++) {
      const level = (values[i] as number) * factor + offset;
      const alpha = Math.round(fadeOf(level) * opacity) << 24;
      this.#pixels[i] = (colourAt(this.#colours, level) & 0xffffff) | alpha;
    }
    return true;
  }

  // Where words overlap, the colour is nearly that of the word with the largest map there: mixed evenly, two colours of the
  // colour bars make one of neither.
  #drawSeveral(run: Run, step: StepMessage, words: readonly number[], viewState: ViewState): boolean {
    const sums = this.#sums.fill(0);
    const opacity = viewState.opacity.value;
    const colours = coloursOfWords(run.info.words, words);
    let any = false;
    words.forEach((word, position) => {
      const field = this.#field(run, step, word, viewState);
      if (!field) return;
      any = true;
      const [r, g, b] = colours[position] as Rgb;
      const { values, factor, offset } = field;
      for (let i = 0, at = 0; i < values.length; i++, at += 5) {
        const cover = fadeOf((values[i] as number) * factor + offset) * opacity;
        const weight = cover ** WINNING;
        sums[at] = (sums[at] as number) + weight * r;
        sums[at + 1] = (sums[at + 1] as number) + weight * g;
        sums[at + 2] = (sums[at + 2] as number) + weight * b;
        sums[at + 3] = (sums[at + 3] as number) + weight;
        sums[at + 4] = (sums[at + 4] as number) + cover;
      }
    });
    const bytes = this.#image.data;
    for (let at = 0, to = 0; at < sums.length; at += 5, to += 4) {
      const weight = sums[at + 3] as number;
      const share = weight > 0 ? 1 / weight : 0;
      for (let part = 0; part < 3; part++) bytes[to + part] = (sums[at + part] as number) * share;
      bytes[to + 3] = (sums[at + 4] as number) * 255;
    }
    return any;
  }
}
