// DF-RISE of a step: which latent pixels its output depends on, estimated with random masks.
// The same as diffvis_widget/explain/rise.py with actual coverage, and diffvis_widget/explain/map_similarity.py.

import type { Report } from "./jobs";
import { type Array32, LATENT_SIZE } from "./networks";
import { Pcg64 } from "./numpyRandom";

const SIDE = 12;
const CELLS = SIDE * SIDE;
const CHANNELS = LATENT_SIZE / CELLS;
const MASKS = 500;
/** Masks before a map may count as converged. */
const FEWEST = 100;
/** How many masks a map usually takes. */
export const USUAL_MASKS = 110;
const KEEP = 0.5;
/** The noise of the masks, as a share of the map's variance, at which a map has converged. */
const TOLERANCE = 0.05;
/** The largest odd window that fits the grid; in units of pixels. */
const WINDOW = 11;
const SIGMA = 1.5;
const C3 = 0.03 ** 2 / 2;

export interface RiseMap {
  /** Mean similarity of the outputs of the masks that keep a pixel. */
  readonly map: Float32Array;
  readonly masks: number;
}

/** `denoise`: the guided output for latents of the step. */
export async function rise(
  latents: Array32,
  denoise: (latents: Array32) => Promise<Array32>,
  report: Report,
): Promise<RiseMap> {
  const random = new Pcg64();
  const whole = new LocalStatistics(await denoise(latents));
  const [drawn, alike, squared] = [new Float64Array(CELLS), new Float64Array(CELLS), new Float64Array(CELLS)] as const;
  let masks = 0;
  while (masks < MASKS) {
    const mask = Array.from({ length: CELLS }, () => random.uniform() < KEEP);
    const output = await denoise(latents.map((value, i) => (mask[i % CELLS] ? value : 0)));
    const similarity = structure(whole, new LocalStatistics(output));
    mask.forEach((isKept, cell) => {
      if (!isKept) return;
      const value = similarity[cell] as number;
      drawn[cell] = (drawn[cell] as number) + 1;
      alike[cell] = (alike[cell] as number) + value;
      squared[cell] = (squared[cell] as number) + value * value;
    });
    masks += 1;
    await report(masks < USUAL_MASKS ? (0.95 * masks) / USUAL_MASKS : 0.95 + (0.05 * masks) / MASKS);
    if (masks >= FEWEST && isConverged(drawn, alike, squared)) break;
  }
  return { map: Float32Array.from(alike, (sum, cell) => sum / (drawn[cell] as number)), masks };
}

function isConverged(drawn: Float64Array, alike: Float64Array, squared: Float64Array): boolean {
  const means = alike.map((sum, cell) => sum / (drawn[cell] as number));
  // The squared standard error of a ratio of two sums (delta method).
  const noise = squared.map((sum, cell) => {
    const count = drawn[cell] as number;
    return Math.max(0, sum - count * (means[cell] as number) ** 2) / (count * (count - 1));
  });
  const mean = average(means);
  return average(noise) <= TOLERANCE * average(means.map((value) => (value - mean) ** 2));
}

function average(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Local means and spreads of a set of maps. */
class LocalStatistics {
  readonly mean: Float64Array;
  readonly spread: Float64Array;

  constructor(readonly values: Array32) {
    this.mean = blur(Float64Array.from(values));
    const squares = blur(Float64Array.from(values, (value) => value * value));
    this.spread = squares.map((square, i) => Math.sqrt(Math.max(0, square - (this.mean[i] as number) ** 2)));
  }
}

/** The structure term of SSIM around each pixel, mean over channels. */
function structure(a: LocalStatistics, b: LocalStatistics): Float64Array {
  const both = blur(Float64Array.from(a.values, (value, i) => value * (b.values[i] as number)));
  const terms = both.map((product, i) => {
    const covariance = product - (a.mean[i] as number) * (b.mean[i] as number);
    return (covariance + C3) / ((a.spread[i] as number) * (b.spread[i] as number) + C3);
  });
  return Float64Array.from({ length: CELLS }, (_, cell) => {
    let sum = 0;
    for (let channel = 0; channel < CHANNELS; channel++) sum += terms[channel * CELLS + cell] as number;
    return sum / CHANNELS;
  });
}

const GAUSSIAN = Array.from({ length: WINDOW }, (_, i) => Math.exp(-((i - (WINDOW >> 1)) ** 2) / (2 * SIGMA ** 2)));
const TOTAL = GAUSSIAN.reduce((sum, weight) => sum + weight, 0);

/** Means with a Gaussian window, reflected at the border. */
function blur(maps: Float64Array): Float64Array {
  return blurAlong(blurAlong(maps, SIDE), 1);
}

/** `stride`: from a pixel to the next one along the axis. */
function blurAlong(maps: Float64Array, stride: number): Float64Array {
  return maps.map((_, index) => {
    const place = Math.floor(index / stride) % SIDE;
    let sum = 0;
    for (let i = 0; i < WINDOW; i++) {
      let other = Math.abs(place + i - (WINDOW >> 1));
      if (other >= SIDE) other = 2 * (SIDE - 1) - other;
      sum += (GAUSSIAN[i] as number) * (maps[index + (other - place) * stride] as number);
    }
    return sum / TOTAL;
  });
}
