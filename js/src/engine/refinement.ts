// Refined maps: each position takes the mean of the map over the positions that it attends to in self-attention, twice.
// The same as diffvis_widget/tracer/refinement.py computes.

import type { Competition } from "./exclusiveWords";
import type { Array32 } from "./networks";

const PASSES = 2;
/** Keeps the division possible for a word without any attention. */
const LEAST = 1e-30;

/** Refined maps (words, positions), with a mean of 1 each. `attention`: (rows, positions, positions), of the row that is the prompt's. `competition`: by word. */
export function refine(
  maps: Float32Array,
  attention: Array32,
  row: number,
  positions: number,
  competition?: ReadonlyMap<number, Competition>,
): Float32Array {
  const weights = attention.subarray(row * positions * positions, (row + 1) * positions * positions);
  const refined = new Float32Array(maps.length);
  for (let start = 0; start < maps.length; start += positions) {
    const competing = competition?.get(start / positions);
    const values = competing?.values ?? maps.subarray(start, start + positions);
    const smoothed = smooth(values, weights);
    let squares = relativeToMean(smoothed).map((value) => value * value);
    if (competing?.weight) {
      const { share, power } = competing.weight;
      const won = smooth(
        values.map((value, i) => value * (share[i] as number)),
        weights,
      );
      squares = squares.map(
        (value, i) => value * ((won[i] as number) / Math.max(smoothed[i] as number, LEAST)) ** power,
      );
    }
    refined.set(relativeToMean(squares), start);
  }
  return refined;
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
