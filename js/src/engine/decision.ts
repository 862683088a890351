// When a word of a run was decided: the word is replaced from each step on, and the final images are measured.
// The same as diffvis_widget/intervene/decision_runs.py with the settings of a run.

import { splitWords } from "../core/splitWords";
import { decisionOf } from "./decisionCurve";
import { type EngineRun, png } from "./engineRun";
import { round } from "./heatMaps";
import type { Interval } from "./intervals";
import type { JobFunction, JobResult, Report, Task } from "./jobs";
import type { Meter } from "./meter";
import type { Array32, Networks } from "./networks";
import { foldWord } from "./promptWords";
import { presentWeights, type RunRequest } from "./request";
import { Sampler, type Start } from "./sampler";
import { roundHalfEven } from "./scheduler";
import type { EngineSettings } from "./settings";
import type { Tokenizer } from "./tokenizer";

const MAX_SEEDS = 32;
/** Points of a curve, so that it is there soon: of 30 steps every other one. */
const POINTS = 16;
const DIGITS = 4;

/** What a curve is computed with. */
export interface Model {
  readonly networks: Networks;
  readonly settings: EngineSettings;
  readonly tokenizer: Tokenizer;
  readonly meter: Meter;
}

/** The job that computes a decision curve, which is kept with the run. Throws an error that says what is wrong. */
export function prepareDecision(model: Model, run: EngineRun, task: Task): JobFunction {
  const { word, to, seeds } = task;
  if (typeof word !== "string" || typeof to !== "string") throw new Error("word and to must be texts");
  if (!to.trim()) throw new Error(`Type what takes the place of ${word}`);
  if (typeof seeds !== "number" || !Number.isInteger(seeds) || seeds < 1 || seeds > MAX_SEEDS)
    throw new Error(`seeds must be a whole number from 1 to ${MAX_SEEDS}, not ${String(seeds)}`);
  if (Object.keys(presentWeights(run.request)).length > 0)
    throw new Error("Words of this run have weights, and an exchange has none: run it again without them");
  const words = [word.trim(), to.trim()] as const;
  const other = replaceWord(run.request.prompt, ...words);
  if (words[0] === words[1]) throw new Error(`to must differ from word: both are ${words[0]}`);
  return async (report) => {
    const result = await compute(model, run, words, other, seeds, report);
    const key = ({ content }: JobResult) => JSON.stringify([(content as Curve).word, (content as Curve).to]);
    run.decisions = [...run.decisions.filter((curve) => key(curve) !== key(result)), result];
    return result;
  };
}

type Curve = Readonly<Record<"word" | "to", string>>;

async function compute(
  model: Model,
  run: EngineRun,
  [word, to]: readonly [string, string],
  other: string,
  seeds: number,
  report: Report,
): Promise<JobResult> {
  const steps = run.planned;
  const points = pointsOf(steps);
  const perSeed = steps + points.reduce((sum, point) => sum + steps - point, 0);
  let evaluations = 0;
  const evaluated = () => report(++evaluations / (seeds * perSeed));
  const shares: number[][] = [];
  const film: Uint8Array[] = [];
  for (let i = 0; i < seeds; i++) {
    const request = { ...run.request, seed: run.request.seed + i };
    const row: number[] = [];
    const latents = await latentsOf(model, request, evaluated);
    for (const point of points) {
      // Until the word is replaced, a run equals the one without a replacement.
      const start: Start = { index: point, latents: latents[point] as Array32 };
      const final = (await latentsOf(model, { ...request, prompt: other }, evaluated, start)).at(-1) as Array32;
      const image = await model.networks.decode(final);
      if (i === 0) film.push(png(image));
      const features = (await model.networks.imageFeatures(image)).slice();
      row.push((await model.meter.score(features, [word, to])).share?.[0] as number);
    }
    shares.push(row);
  }
  const { mean, band, decision, interval, agreeing } = decisionOf(points, shares);
  const numbers = (values: readonly number[] | Interval) => values.map(number);
  return {
    content: {
      run: run.id,
      word,
      to,
      steps,
      switch: points,
      seeds,
      mean: numbers(mean),
      band: band.map(numbers),
      shares: shares.map(numbers),
      decision: number(decision),
      interval: numbers(interval),
      agreeing,
      images: film.length,
    },
    buffers: film,
  };
}

function number(value: number): number | null {
  return Number.isFinite(value) ? round(value, DIGITS) : null;
}

/** The latents before each step from `start` on, and the final ones. */
async function latentsOf(
  { networks, settings, tokenizer }: Model,
  request: RunRequest,
  evaluated: () => Promise<void>,
  start?: Start,
): Promise<Array32[]> {
  const sampler = new Sampler(networks, settings, tokenizer, request, start);
  const latents = [sampler.latents];
  while (!sampler.isDone) {
    await sampler.advance();
    latents.push(sampler.latents);
    await evaluated();
  }
  return latents;
}

/** The steps at which a curve replaces the word: all, or 16 of them, evenly spread. */
export function pointsOf(steps: number): number[] {
  const count = Math.min(steps + 1, POINTS);
  return Array.from({ length: count }, (_, i) => roundHalfEven((i * steps) / (count - 1)));
}

/** The prompt with `to` in place of every occurrence of `word`. */
export function replaceWord(prompt: string, word: string, to: string): string {
  const characters = Array.from(prompt);
  const textsOf = (all: readonly string[]) =>
    splitWords(all).map(([start, end]) => ({ start, end, text: foldWord(all.slice(start, end).join("")) }));
  const spans = textsOf(characters);
  const target = textsOf(Array.from(word));
  const isAt = (at: number) => target.length > 0 && target.every(({ text }, i) => spans[at + i]?.text === text);
  const positions = spans.flatMap((_, at) => (isAt(at) ? [at] : []));
  if (positions.length === 0) {
    const there = spans.map(({ start, end }) => characters.slice(start, end).join("")).join(", ");
    throw new Error(`word “${word}” is not in the prompt; its words are: ${there}`);
  }
  for (const at of positions.reverse()) {
    const { start } = spans[at] as (typeof spans)[number];
    const { end } = spans[at + target.length - 1] as (typeof spans)[number];
    characters.splice(start, end - start, to);
  }
  const replaced = characters.join("");
  if (replaced.toLowerCase() === prompt.toLowerCase()) throw new Error(`to must differ from word: both are ${word}`);
  return replaced;
}
