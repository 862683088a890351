// Heat maps as smooth fields: values are resampled before they are coloured, so that a colour always means its value.

import type { Maps, Range } from "./protocol";

/** Cubic (Catmull-Rom) weights that resample `from` cells to `to` points: 4 source indices and 4 weights a point. */
interface Weights {
  readonly index: Uint16Array;
  readonly weight: Float32Array;
}

function weights(from: number, to: number): Weights {
  const index = new Uint16Array(to * 4);
  const weight = new Float32Array(to * 4);
  for (let i = 0; i < to; i++) {
    const at = ((i + 0.5) * from) / to - 0.5;
    const base = Math.floor(at);
    const t = at - base;
    const w = [
      -0.5 * t + t * t - 0.5 * t * t * t,
      1 - 2.5 * t * t + 1.5 * t * t * t,
      0.5 * t + 2 * t * t - 1.5 * t * t * t,
      -0.5 * t * t + 0.5 * t * t * t,
    ];
    for (let k = 0; k < 4; k++) {
      index[i * 4 + k] = Math.min(from - 1, Math.max(0, base + k - 1));
      weight[i * 4 + k] = w[k] ?? 0;
    }
  }
  return { index, weight };
}

/** Four neighbours along a line of `source`, weighted. The casts spare the hot loop a check for each number. */
function blend(
  source: ArrayLike<number>,
  from: number,
  stride: number,
  index: Uint16Array,
  weight: Float32Array,
  k: number,
): number {
  return (
    (source[from + (index[k] as number) * stride] as number) * (weight[k] as number) +
    (source[from + (index[k + 1] as number) * stride] as number) * (weight[k + 1] as number) +
    (source[from + (index[k + 2] as number) * stride] as number) * (weight[k + 2] as number) +
    (source[from + (index[k + 3] as number) * stride] as number) * (weight[k + 3] as number)
  );
}

/** Resamples byte maps of one grid to one raster; keeps its tables, so make one per raster and reuse it. */
export class Resampler {
  readonly values: Float32Array;
  #scratch = new Float32Array(0);
  #x: Weights | undefined;
  #y: Weights | undefined;
  #grid = "";

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.values = new Float32Array(width * height);
  }

  /** The map of `word`, 0..255 between its own lo and hi, on this raster. The array is reused by the next call. */
  resample(maps: Maps, word: number): Float32Array {
    const { width: w, height: h } = maps;
    if (this.#grid !== `${h}x${w}`) {
      this.#grid = `${h}x${w}`;
      this.#x = weights(w, this.width);
      this.#y = weights(h, this.height);
      this.#scratch = new Float32Array(h * this.width);
    }
    if (w === this.width && h === this.height) {
      this.values.set(maps.data.subarray(word * h * w, (word + 1) * h * w));
      return this.values;
    }
    const { index: xi, weight: xw } = this.#x as Weights;
    const { index: yi, weight: yw } = this.#y as Weights;
    const source = maps.data;
    const wide = this.#scratch;
    for (let y = 0, out = 0; y < h; y++) {
      const from = (word * h + y) * w;
      for (let x = 0; x < this.width; x++, out++) wide[out] = blend(source, from, 1, xi, xw, x * 4);
    }
    const values = this.values;
    for (let y = 0, out = 0; y < this.height; y++) {
      for (let x = 0; x < this.width; x++, out++) values[out] = blend(wide, x, this.width, yi, yw, y * 4);
    }
    return values;
  }
}

/** A region of the image, 0..1 from its left and its top. */
export interface Region {
  readonly u0: number;
  readonly v0: number;
  readonly u1: number;
  readonly v1: number;
}

/** The first and the last of `n` cells that the interval from `a` to `b` touches. */
export function cells(a: number, b: number, n: number): [first: number, last: number] {
  const cell = (at: number) => Math.min(n - 1, Math.max(0, Math.floor(at * n)));
  return [cell(Math.min(a, b)), cell(Math.max(a, b))];
}

/** The mean of a word's map over the cells that a region touches; null where there is no map. */
export function meanIn(maps: Maps, word: number, { u0, v0, u1, v1 }: Region): number | null {
  const scale = maps.scales[word];
  if (!scale) return null;
  const [left, right] = cells(u0, u1, maps.width);
  const [top, bottom] = cells(v0, v1, maps.height);
  let sum = 0;
  for (let y = top; y <= bottom; y++) {
    const row = (word * maps.height + y) * maps.width;
    for (let x = left; x <= right; x++) sum += maps.data[row + x] as number;
  }
  const mean = sum / ((right - left + 1) * (bottom - top + 1));
  return scale[0] + (mean / 255) * (scale[1] - scale[0]);
}

/** The value of a word's map in the cell under a point, u and v from 0 to 1; null where there is no map. */
export function valueAt(maps: Maps, word: number, u: number, v: number): number | null {
  return meanIn(maps, word, { u0: u, v0: v, u1: u, v1: v });
}

/** One range for several words: from their lowest to their highest value. */
export function sharedRange(scales: readonly (Range | null | undefined)[]): Range | null {
  let lo = Number.POSITIVE_INFINITY;
  let hi = -Number.POSITIVE_INFINITY;
  for (const scale of scales) {
    if (!scale) continue;
    lo = Math.min(lo, scale[0]);
    hi = Math.max(hi, scale[1]);
  }
  return lo <= hi ? [lo, hi] : null;
}

/** Factor and offset that map the bytes of a map with range `source` to 0..255 in the range `target`. */
export function rescale(source: Range, target: Range): readonly [factor: number, offset: number] {
  const span = target[1] - target[0];
  if (span <= 0) return [0, 0];
  return [(source[1] - source[0]) / span, ((source[0] - target[0]) / span) * 255];
}
