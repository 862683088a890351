// Confidence intervals that assume no distribution, as diffvis_widget/intervals.py computes them.

import { standardExponential } from "./numpyRandom";

export type Interval = readonly [low: number, high: number];

const TAIL = 0.025;
const FEWEST = 5;
const DRAWS = 4000;
const UNBOUNDED: Interval = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];

export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}

/** With linear interpolation, of sorted values. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const below = sorted[low] as number;
  const above = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return below + (place - low) * (above - below);
}

/** The 95 % interval of a median: order statistics (the sign test). */
export function medianInterval(values: readonly number[]): Interval {
  const sorted = [...values].sort((a, b) => a - b);
  const total = sorted.length;
  if (total < FEWEST) return UNBOUNDED;
  const [first, last] = [sorted[0] as number, sorted[total - 1] as number];
  if (total === FEWEST) {
    const margin = (last - first) / 10;
    return [first - margin, last + margin];
  }
  const rank = signRank(total);
  return [sorted[rank - 1] as number, sorted[total - rank] as number];
}

/** The largest rank below which a binomial variable of probability 1/2 is in at most 2.5 % of the cases. */
function signRank(total: number): number {
  let ways = 1;
  let below = 0;
  for (let rank = 0; ; rank++) {
    below += ways;
    if (below > TAIL * 2 ** total) return rank;
    ways = (ways * (total - rank)) / (rank + 1);
  }
}

/** The 95 % interval of each column's mean of values between 0 and 1; `rows`: independent values. Unbounded for fewer than
 *  two rows. Means with random weights, with the bound as one more value. */
export function meanIntervals(rows: readonly (readonly number[])[]): Interval[] {
  const columns = rows[0]?.length ?? 0;
  if (rows.length < 2) return Array.from({ length: columns }, () => UNBOUNDED);
  const width = rows.length + 1;
  const shares = standardExponential(DRAWS * width);
  for (let start = 0; start < shares.length; start += width) {
    const row = shares.subarray(start, start + width);
    const total = row.reduce((sum, value) => sum + value, 0);
    for (let i = 0; i < width; i++) row[i] = (row[i] as number) / total;
  }
  return Array.from({ length: columns }, (_, column): Interval => {
    const inside = Float64Array.from({ length: DRAWS }, (_, draw) =>
      rows.reduce(
        (sum, row, i) => sum + (shares[draw * width + i] as number) * Math.min(Math.max(row[column] as number, 0), 1),
        0,
      ),
    );
    const upper = inside.map((value, draw) => value + (shares[draw * width + rows.length] as number));
    return [quantile(inside.sort(), TAIL), quantile(upper.sort(), 1 - TAIL)];
  });
}
