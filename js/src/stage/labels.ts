// An image that labels itself: each pixel has the colour of the content word with the largest heat map there, and each
// word is written at its peak.

import { css, type Rgb, wordColours } from "../core/colormap";
import { Resampler } from "../core/mapSampling";
import type { StepMessage, Word } from "../core/protocol";
import type { Run } from "../core/store";
import type { ImageBox } from "./stageImage";

const RASTER = 64;
/** Below this share of the largest value of a step a pixel stays clear; the opacity rises from there to `STRENGTH`. */
const CLEAR = 0.1;
const EXPONENT = 0.8;
const STRENGTH = 0.6;
/** A word is written if its peak is this share of the largest value of the step, and that of the largest value there. */
const WRITTEN = 0.2;
const NAMING = 0.5;

/** Words that say where, how many or how large, or join others: they have no place of their own in an image. */
const FUNCTION_WORDS = new Set(
  (
    "a an the and or but with without of in on at to from by for into onto above below under over beneath behind " +
    "before beside besides between near next around inside outside front back top bottom side left right upper lower " +
    "middle center centre small large big little tiny huge is are be it its this that these those there as two three four five some many"
  ).split(" "),
);

/** The indices of the words that name something in the image: those of the first text encoder that has maps. */
export function contentWords(words: readonly Word[], scales: StepMessage["maps"]["scales"]): number[] {
  const named = words.flatMap(({ kind, text }, index) => {
    const plain = text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
    return kind === "word" && scales[index] && plain !== "" && !FUNCTION_WORDS.has(plain) ? [index] : [];
  });
  const encoder = words[named[0] ?? -1]?.encoder;
  return named.filter((index) => words[index]?.encoder === encoder);
}

/** A word and the place of its peak, 0..1 from the left and the top of the image. */
export interface Label {
  readonly text: string;
  readonly colour: string;
  readonly u: number;
  readonly v: number;
  /** The value there, as a share of the largest value of all words. */
  readonly share: number;
}

interface Labelled {
  readonly canvas: OffscreenCanvas;
  readonly labels: readonly Label[];
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Places for labels of these sizes at these points, inside the frame and apart from each other; null where none is left. */
export function placeLabels(wanted: readonly Box[], frame: Box): (Box | null)[] {
  const placed: Box[] = [];
  return wanted.map(({ x, y, width, height }) => {
    const left = Math.min(frame.x + frame.width - width, Math.max(frame.x, x - width / 2));
    for (const lines of [0, 1, -1, 2, -2, 3, -3]) {
      const top = Math.min(frame.y + frame.height - height, Math.max(frame.y, y - height / 2 + lines * height));
      const isFree = placed.every(
        (other) =>
          left >= other.x + other.width ||
          left + width <= other.x ||
          top >= other.y + other.height ||
          top + height <= other.y,
      );
      if (!isFree) continue;
      const box = { x: left, y: top, width, height };
      placed.push(box);
      return box;
    }
    return null;
  });
}

export class LabelOverlay {
  readonly #raster = new Resampler(RASTER, RASTER);
  readonly #steps = new WeakMap<StepMessage["maps"], Labelled>();

  /** Draws the colours and the words of a step; `opacity` is that of the largest value. */
  draw(c: CanvasRenderingContext2D, run: Run, step: StepMessage, opacity: number, box: ImageBox, ratio: number): void {
    const { canvas, labels } = this.#of(run, step);
    c.save();
    c.globalAlpha = opacity;
    c.imageSmoothingEnabled = true;
    c.imageSmoothingQuality = "high";
    c.drawImage(canvas, box.x, box.y, box.width, box.height);
    c.globalAlpha = 1;
    this.#write(c, labels, box, ratio);
    c.restore();
  }

  #of(run: Run, step: StepMessage): Labelled {
    let labelled = this.#steps.get(step.maps);
    if (!labelled) {
      labelled = this.#label(run, step);
      this.#steps.set(step.maps, labelled);
    }
    return labelled;
  }

  #label(run: Run, step: StepMessage): Labelled {
    const words = contentWords(run.info.words, step.maps.scales);
    const texts = words.map((index) => run.info.words[index]?.text ?? "");
    const colours = wordColours(texts);
    const size = RASTER * RASTER;
    const max = Math.max(1e-9, ...words.map((index) => step.maps.scales[index]?.[1] ?? 0));
    const largest = new Float32Array(size);
    // Red, green, blue and their weight. The eighth power leaves the word with the largest map, with soft borders.
    const sums = new Float32Array(size * 4);
    const peaks = words.map((index, position) => {
      const [lo, hi] = step.maps.scales[index] ?? [0, 0];
      const field = this.#raster.resample(step.maps, index);
      const [r, g, b] = colours[position] as Rgb;
      const peak = { at: 0, share: 0 };
      for (let i = 0, at = 0; i < size; i++, at += 4) {
        const share = Math.max(0, lo + ((field[i] as number) / 255) * (hi - lo)) / max;
        if (share > peak.share) {
          peak.at = i;
          peak.share = share;
        }
        if (share > (largest[i] as number)) largest[i] = share;
        const fourth = share * share * share * share;
        const weight = fourth * fourth;
        sums[at] = (sums[at] as number) + weight * r;
        sums[at + 1] = (sums[at + 1] as number) + weight * g;
        sums[at + 2] = (sums[at + 2] as number) + weight * b;
        sums[at + 3] = (sums[at + 3] as number) + weight;
      }
      return peak;
    });
    const image = new ImageData(RASTER, RASTER);
    const { data } = image;
    for (let i = 0, at = 0; i < size; i++, at += 4) {
      const weight = sums[at + 3] as number;
      if (weight <= 0) continue;
      for (let k = 0; k < 3; k++) data[at + k] = (sums[at + k] as number) / weight;
      const share = Math.max(0, ((largest[i] as number) - CLEAR) / (1 - CLEAR));
      data[at + 3] = 255 * STRENGTH * share ** EXPONENT;
    }
    const canvas = new OffscreenCanvas(RASTER, RASTER);
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    const labels = peaks.flatMap(({ at, share }, position): Label[] => {
      // Where another word is attended to much more, this one names nothing.
      if (share < WRITTEN || share < NAMING * (largest[at] as number)) return [];
      const [u, v] = [((at % RASTER) + 0.5) / RASTER, (Math.floor(at / RASTER) + 0.5) / RASTER];
      return [{ text: texts[position] ?? "", colour: css(colours[position] as Rgb), u, v, share }];
    });
    return { canvas, labels: labels.sort((a, b) => b.share - a.share) };
  }

  #write(c: CanvasRenderingContext2D, labels: readonly Label[], box: ImageBox, ratio: number): void {
    const font = Math.max(12, Math.min(16, box.width / ratio / 26)) * ratio;
    c.font = `600 ${font}px ${getComputedStyle(c.canvas).fontFamily}`;
    c.textBaseline = "middle";
    c.textAlign = "center";
    c.lineJoin = "round";
    const height = font * 1.35;
    const wanted = labels.map(({ text, u, v }) => ({
      x: box.x + u * box.width,
      y: box.y + v * box.height,
      width: c.measureText(text).width + font * 0.6,
      height,
    }));
    placeLabels(wanted, box).forEach((place, i) => {
      const label = labels[i];
      if (!place || !label) return;
      const [x, y] = [place.x + place.width / 2, place.y + place.height / 2];
      // White on a dark rim is readable on light and on dark pixels; the line below has the word's colour.
      c.strokeStyle = "#000b";
      c.lineWidth = font * 0.28;
      c.strokeText(label.text, x, y);
      c.fillStyle = "#fff";
      c.fillText(label.text, x, y);
      c.fillStyle = label.colour;
      c.fillRect(place.x + font * 0.3, y + font * 0.56, place.width - font * 0.6, Math.max(2 * ratio, font * 0.14));
    });
  }
}
