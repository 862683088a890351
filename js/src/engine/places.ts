// What a place of the image attends to at a step, in the layer whose self-attention refines the maps: mean over heads.

import type { EngineRun } from "./engineRun";
import { quantise } from "./heatMaps";
import type { JobFunction, Task } from "./jobs";

const SIDE = 12;
const CELLS = SIDE * SIDE;

/** The job that reads the row of a place, (y, x) from 0 to below 1. Throws an error that says what is wrong. */
export function prepareAttention(run: EngineRun, { step, position }: Task): JobFunction {
  const { attention } = run.at(step).record;
  const [row = 0, column = 0] = (position as number[]).map((share) => Math.floor(share * SIDE));
  const start = (row * SIDE + column) * CELLS;
  const { data, scales } = quantise(attention.slice(start, start + CELLS) as Float32Array, CELLS);
  const content = {
    maps: [{ grid: [SIDE, SIDE], scale: scales[0], share: null }],
    place: [row / SIDE, column / SIDE, (row + 1) / SIDE, (column + 1) / SIDE],
    references: 0,
    layers: 1,
  };
  return async () => ({ content, buffers: [data] });
}
