// Sparklines: the scores of a run over its steps as SVG paths, on one axis for all concepts.

import type { Range } from "../core/protocol";

const PAD = 2;

export const SPARK = {
  width: 120,
  height: 24,
  x: (step: number, length: number): number => ((step + 0.5) / length) * 120,
  /** From 0..1 on the axis to the drawing, with a margin for the dot. */
  y: (at: number): number => 24 - PAD - at * (24 - 2 * PAD),
};

/** What an axis must cover: [step][concept], and the null band of each step. */
interface ScoreTable {
  readonly cosine: readonly (readonly (number | null)[] | undefined)[];
  readonly null_band: readonly (Range | null | undefined)[];
}

export interface Axis {
  readonly range: Range;
  /** Maps a score to 0..1. */
  position(score: number): number;
}

/**
 * The same axis for every concept: shares from 0 to 1, cosines over all values and null bands. With `zero` it includes 0,
 * so that the lengths of bars can be compared; lines do not need that.
 */
export function axisOf(scores: ScoreTable | null, scale: "cosine" | "share", zero: boolean): Axis {
  let lo = scale === "share" ? 0 : Number.POSITIVE_INFINITY;
  let hi = scale === "share" ? 1 : -Number.POSITIVE_INFINITY;
  if (scale === "cosine") {
    for (const row of scores?.cosine ?? []) {
      for (const score of row ?? []) {
        if (score === null) continue;
        lo = Math.min(lo, score);
        hi = Math.max(hi, score);
      }
    }
    for (const band of scores?.null_band ?? []) {
      if (!band) continue;
      lo = Math.min(lo, band[0]);
      hi = Math.max(hi, band[1]);
    }
    if (zero) lo = Math.min(lo, 0);
    if (!Number.isFinite(hi)) [lo, hi] = [0, 1];
    if (hi <= lo) hi = lo + 1;
  }
  const span = hi - lo;
  return { range: [lo, hi], position: (score) => Math.min(1, Math.max(0, (score - lo) / span)) };
}

const at = (n: number): string => String(Math.round(n * 100) / 100);

/** A line through the scores, with gaps where scores are missing. */
export function linePath(series: readonly (number | null)[], length: number, axis: Axis): string {
  let path = "";
  let isDrawing = false;
  for (let step = 0; step < series.length; step++) {
    const score = series[step] ?? null;
    if (score === null) isDrawing = false;
    else {
      path += `${isDrawing ? "L" : "M"}${at(SPARK.x(step, length))} ${at(SPARK.y(axis.position(score)))}`;
      isDrawing = true;
    }
  }
  return path;
}

/** The null band as an area from its lower to its upper end. */
export function bandPath(bands: readonly (Range | null | undefined)[], length: number, axis: Axis): string {
  const present = bands.flatMap((band, step) => (band ? [{ step, band }] : []));
  if (present.length === 0) return "";
  const upper = present.map(({ step, band }) => `${at(SPARK.x(step, length))} ${at(SPARK.y(axis.position(band[1])))}`);
  const lower = present.map(({ step, band }) => `${at(SPARK.x(step, length))} ${at(SPARK.y(axis.position(band[0])))}`);
  return `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
}
