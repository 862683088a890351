// What a word's heat map is made of and what it looks like in numbers, as `Trace.describe_map` computes them.

import { fullNameOf, type Maps, type Run, type StepMessage } from "../../app/coreExports";

/** Correlation from which two maps count as nearly the same. */
export const SAME = 0.95;

export interface MapDescription {
  /** 0..1: entropy over the positions relative to that of a flat map; null where it has none. */
  readonly entropy: number | null;
  /** The largest value over the mean; null where it has none. */
  readonly contrast: number | null;
  /** The share of the attention to the text that goes to the word, 0..1. */
  readonly wordShare: number | null;
  /** The share that goes to special, padding and template tokens, 0..1. */
  readonly specialShare: number | null;
  /** The other words and the correlation of their maps with this one, the highest first. */
  readonly others: readonly { readonly name: string; readonly correlation: number }[];
}

/** The values of a word's map; null where it has none. */
function valuesOf({ height, width, scales, data }: Maps, word: number): Float64Array | null {
  const scale = scales[word];
  if (!scale) return null;
  const [low, high] = scale;
  const size = height * width;
  return Float64Array.from(data.subarray(word * size, (word + 1) * size), (cell) => low + (cell / 255) * (high - low));
}

const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
const meanOf = (values: Float64Array): number => sum(values) / values.length;

function entropyOf(values: Float64Array): number {
  const total = sum(values);
  const entropy = values.reduce(
    (rest, value) => (value > 0 ? rest - (value / total) * Math.log(value / total) : rest),
    0,
  );
  return entropy / Math.log(values.length);
}

function correlationOf(first: Float64Array, second: Float64Array): number {
  const [a, b] = [meanOf(first), meanOf(second)];
  let [product, left, right] = [0, 0, 0];
  first.forEach((value, i) => {
    const [x, y] = [value - a, (second[i] as number) - b];
    product += x * y;
    left += x * x;
    right += y * y;
  });
  return left > 0 && right > 0 ? product / Math.sqrt(left * right) : 0;
}

/** Describes the map of a word: `shown` has the maps on the stage, `recorded` the attention probabilities. */
export function describeMap(run: Run, shown: StepMessage, recorded: StepMessage, word: number): MapDescription | null {
  const values = valuesOf(shown.maps, word);
  if (!values) return null;
  const { words } = run.info;
  const means = words.map((_, index) => {
    const map = valuesOf(recorded.maps, index);
    return map ? meanOf(map) : 0;
  });
  const total = means.reduce((all, mean) => all + mean, 0);
  const special = means.filter((_, i) => ["special", "template", "padding"].includes(words[i]?.kind ?? ""));
  const isMeasurable = sum(values) > 0 && values.every((value) => value >= 0) && values.length > 1;
  const others = words.flatMap((other, index) => {
    const map = index === word || other.kind !== "word" ? null : valuesOf(shown.maps, index);
    return map ? [{ name: fullNameOf(other), correlation: correlationOf(values, map) }] : [];
  });
  return {
    entropy: isMeasurable ? entropyOf(values) : null,
    contrast: isMeasurable ? Math.max(...values) / meanOf(values) : null,
    wordShare: total > 0 ? (means[word] ?? 0) / total : null,
    specialShare: total > 0 ? special.reduce((all, mean) => all + mean, 0) / total : null,
    others: others.sort((a, b) => b.correlation - a.correlation),
  };
}
