// What a heat map shows, in a sentence.

import { type StepMessage, stepNumber, value } from "../app/coreExports";

const ROWS = ["top", "middle", "bottom"];
const COLUMNS = ["left", "middle", "right"];

/** Where a word is attended to most at a step, and how much; empty where it has no map. */
export function mapText({ maps, index: step }: StepMessage, word: number): string {
  const { height, width, scales, data } = maps;
  const scale = scales[word];
  if (!scale) return "";
  const cells = data.subarray(word * height * width, (word + 1) * height * width);
  const peak = cells.indexOf(Math.max(...cells));
  const mean = cells.reduce((sum, cell) => sum + cell, 0) / cells.length;
  const row = ROWS[Math.floor((3 * (Math.floor(peak / width) + 0.5)) / height)] as string;
  const column = COLUMNS[Math.floor((3 * ((peak % width) + 0.5)) / width)] as string;
  const place = row === column ? "in the middle" : row === "middle" ? `on the ${column}` : `at the ${row}`;
  const beside = row === column || row === "middle" || column === "middle" ? "" : ` ${column}`;
  const average = value(scale[0] + (mean / 255) * (scale[1] - scale[0]));
  return `At step ${stepNumber(step)} it is attended to most ${place}${beside}: ${value(scale[1])} there, ${average} on average.`;
}
