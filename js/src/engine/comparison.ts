// Compares two runs of the engine, as diffvis_widget/traces/comparison.py does.

import { alignWords } from "../core/alignWords";
import type { EngineRun, ShownStep } from "./engineRun";
import { round } from "./heatMaps";
import type { Array32 } from "./networks";

/** The relative distance from which two runs count as diverged. */
const DIVERGED = 0.1;
const DIGITS = 4;

interface WordPair {
  readonly a: number | null;
  readonly b: number | null;
  readonly change: "same" | "replaced" | "removed" | "added";
}

/** The reply to a request to compare two runs that have ended. */
export function compareReply(id: number, a: EngineRun, b: EngineRun): object {
  if (a.steps.length === 0 || b.steps.length === 0) throw new Error("a run without a finished step cannot be compared");
  const sigmas = [a, b].map((run) => run.steps.map(({ record }) => record.sigma)) as [number[], number[]];
  const isSame =
    sigmas[0].length === sigmas[1].length &&
    sigmas[0].every((sigma, i) => Math.abs(sigma - (sigmas[1][i] as number)) <= 1e-4 + 0.01 * (sigmas[1][i] as number));
  const steps = sigmas[0].map((sigma, i): [number, number] => [i, isSame ? i : nearest(sigmas[1], sigma)]);
  const words = pairWords(a, b);
  const distance = distances(a, b, steps);
  const lastBelow = distance.findLastIndex((value) => value <= DIVERGED);
  return {
    type: "compare",
    id,
    align: isSame ? "index" : "noise",
    steps,
    words,
    distance: distance.map((value) => round(value, DIGITS)),
    threshold: DIVERGED,
    divergence_step: lastBelow + 1 < distance.length ? lastBelow + 1 : null,
    maps: steps.map(([i, j]) => mapDistances(a, b, i, j, words)),
    image_difference: a.image && b.image ? round(imageDifference(a.image, b.image), DIGITS) : null,
  };
}

/** The index of the noise level that is nearest in its logarithm. */
function nearest(sigmas: readonly number[], sigma: number): number {
  const level = (value: number) => Math.log(Math.min(Math.max(value, 1e-6), 1e6));
  const distance = sigmas.map((other) => Math.abs(level(other) - level(sigma)));
  return distance.indexOf(Math.min(...distance));
}

function pairWords(a: EngineRun, b: EngineRun): WordPair[] {
  const [left, right] = [a, b].map((run) => run.words.map((word) => `${word.kind} ${word.text}`)) as [
    string[],
    string[],
  ];
  const pairs: WordPair[] = [];
  let [i, j] = [0, 0];
  for (const [nextA, nextB] of [...alignWords(left, right), [left.length, right.length] as const]) {
    while (i < nextA && j < nextB) pairs.push({ a: i++, b: j++, change: "replaced" });
    while (i < nextA) pairs.push({ a: i++, b: null, change: "removed" });
    while (j < nextB) pairs.push({ a: null, b: j++, change: "added" });
    if (nextA < left.length) pairs.push({ a: i++, b: j++, change: "same" });
  }
  return pairs;
}

/** RMS difference of the predicted latents, over the spread of the final ones. */
function distances(a: EngineRun, b: EngineRun, steps: readonly (readonly [number, number])[]): number[] {
  const clean = (run: EngineRun, index: number) => (run.steps.at(index) as ShownStep).record.clean;
  const spread = Math.sqrt((variance(clean(a, -1)) + variance(clean(b, -1))) / 2);
  return steps.map(([i, j]) => {
    const [first, second] = [clean(a, i), clean(b, j)];
    const squares = first.reduce((sum, value, k) => sum + (value - (second[k] as number)) ** 2, 0);
    return Math.sqrt(squares / first.length) / Math.max(spread, 1e-12);
  });
}

/** The mean over channels of the variance inside each. */
function variance(latents: Array32): number {
  const size = latents.length / 4;
  let sum = 0;
  for (let start = 0; start < latents.length; start += size) {
    const channel = latents.subarray(start, start + size);
    const mean = channel.reduce((total, value) => total + value, 0) / size;
    sum += channel.reduce((total, value) => total + (value - mean) ** 2, 0);
  }
  return sum / latents.length;
}

/** The mean difference of two final images, 0 to 1. */
function imageDifference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - (b[i] as number)), 0) / (255 * a.length);
}

/** Total variation of the heat maps of each pair of words, 0 to 1. */
function mapDistances(a: EngineRun, b: EngineRun, i: number, j: number, words: readonly WordPair[]): (number | null)[] {
  const maps = [a.heatMaps(i), b.heatMaps(j)] as const;
  const size = maps[0].length / a.words.length;
  const shares = (map: Float32Array) => {
    const total = map.reduce((sum, value) => sum + value, 0);
    return map.map((value) => value / total);
  };
  return words.map((pair) => {
    if (pair.a === null || pair.b === null) return null;
    const first = shares(maps[0].subarray(pair.a * size, (pair.a + 1) * size));
    const second = shares(maps[1].subarray(pair.b * size, (pair.b + 1) * size));
    const distance = first.reduce((sum, value, k) => sum + Math.abs(value - (second[k] as number)), 0) / 2;
    return Number.isFinite(distance) ? round(distance, DIGITS) : null;
  });
}
