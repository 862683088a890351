// The decision step of a curve, and its spread over seeds, as diffvis_widget/intervene/decision_curves.py finds them.

import { type Interval, meanIntervals, median, medianInterval } from "./intervals";

/** How far apart the ends of a seed's curve are at least, if it has a decision. */
const LEAST_DIFFERENCE = 0.2;

export interface Decision {
  readonly mean: readonly number[];
  readonly band: readonly Interval[];
  /** NaN where most seeds have none. */
  readonly decision: number;
  readonly interval: Interval;
  /** Seeds whose decision is at most one step away from `decision`. */
  readonly agreeing: number;
}

/** `points`: the steps of the replacement; `shares`: of each seed, the share of the word at each of them. */
export function decisionOf(points: readonly number[], shares: readonly (readonly number[])[]): Decision {
  const decided = shares.map((row) => crossing(points, row)).filter(Number.isFinite);
  const decision = 2 * decided.length > shares.length ? median(decided) : Number.NaN;
  return {
    mean: points.map((_, k) => shares.reduce((sum, row) => sum + (row[k] as number), 0) / shares.length),
    band: meanIntervals(shares),
    decision,
    interval: medianInterval(Number.isNaN(decision) ? [] : decided),
    agreeing: decided.filter((step) => Math.abs(step - decision) <= 1).length,
  };
}

/** Where a curve last rises through the middle of its two ends; NaN if these are too close. */
function crossing(points: readonly number[], curve: readonly number[]): number {
  const [first, last] = [curve[0] as number, curve.at(-1) as number];
  if (!(last - first >= LEAST_DIFFERENCE)) return Number.NaN;
  const middle = (first + last) / 2;
  const below = curve.findLastIndex((share) => share < middle);
  const [low, high] = [curve[below] as number, curve[below + 1] as number];
  const [from, to] = [points[below] as number, points[below + 1] as number];
  return from + ((middle - low) / (high - low)) * (to - from);
}
