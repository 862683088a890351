// Refined maps: each position takes the mean of the map over the positions that it attends to in self-attention, twice.
// The same as diffvis_widget/tracer/refinement.py computes.

import type { Array32 } from "./networks";

const PASSES = 2;
const SHARE_POWER = 6;
/** Keeps the division possible for a word without any attention. */
const LEAST = 1e-30;
const TINY = 1e-300;

/** Refined maps (words, positions), with a mean of 1 each. `attention`: (rows, positions, positions), of the row that is the prompt's. `shares`: by word, among words that exclude each other. */
export function refine(
  maps: Float32Array,
  attention: Array32,
  row: number,
  positions: number,
  shares?: ReadonlyMap<number, Float32Array>,
): Float32Array {
  const weights = attention.subarray(row * positions * positions, (row + 1) * positions * positions);
  const refined = new Float32Array(maps.length);
  for (let start = 0; start < maps.length; start += positions) {
    const values = maps.subarray(start, start + positions);
    const smoothed = smooth(values, weights);
    let squares = relativeToMean(smoothed).map((value) => value * value);
    const share = shares?.get(start / positions);
    if (share) {
      const won = smooth(
        values.map((value, i) => value * (share[i] as number)),
        weights,
      );
      squares = squares.map(
        (value, i) => value * ((won[i] as number) / Math.max(smoothed[i] as number, LEAST)) ** SHARE_POWER,
      );
    }
    refined.set(relativeToMean(squares), start);
  }
  return refined;
}

/** The share of each colour in the product over heads of their probabilities (words, heads, positions), by word. `first`: the index of their first word among all. */
export function colourShares(
  maps: Array32,
  heads: number,
  positions: number,
  colours: readonly number[],
  first: number,
): Map<number, Float32Array> {
  const odds = (word: number, position: number): number => {
    let product = 1;
    for (let head = 0; head < heads; head++) product *= maps[(word * heads + head) * positions + position] as number;
    return product;
  };
  return new Map(
    colours.map((word) => [
      first + word,
      Float32Array.from(
        { length: positions },
        (_, position) => odds(word, position) / colours.reduce((sum, other) => sum + odds(other, position), TINY),
      ),
    ]),
  );
}

function smooth(values: Float32Array, weights: Array32): Float32Array {
  let means = values;
  for (let pass = 0; pass < PASSES; pass++) means = attendedMeans(means, weights);
  return means;
}

function attendedMeans(values: Float32Array, weights: Array32): Float32Array {
  const size = values.length;
  const means = new Float32Array(size);
  for (let position = 0; position < size; position++) {
    let sum = 0;
    for (let other = 0; other < size; other++)
      sum += (weights[position * size + other] as number) * (values[other] as number);
    means[position] = sum;
  }
  return means;
}

function relativeToMean(values: Float32Array): Float32Array {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.map((value) => value / Math.max(mean, LEAST));
}
