// The noise levels of a run and the solver of the scenes model: DPM-Solver++ of first order, with v-prediction.
// The same as diffvis_widget/schedule.py and diffusers' DPMSolverMultistepScheduler.

import type { Schedule } from "../core/host";

const TRAIN_STEPS = 1000;

export interface NoiseLevel {
  readonly timestep: number;
  /** Noise over signal. */
  readonly sigma: number;
}

/** The noise levels of a run. `sigmas`: of all training steps. Throws an error with a remedy for an impossible schedule. */
export function noiseLevels(
  schedule: Schedule,
  steps: number,
  strength: number,
  sigmas: readonly number[],
): NoiseLevel[] {
  const times = schedule === "uniform" ? uniformTimesteps(steps) : timesteps(schedule, steps, strength);
  return times.map((timestep) => ({
    timestep,
    sigma: sigmas[Math.min(Math.max(timestep, 0), TRAIN_STEPS - 1)] as number,
  }));
}

/** Evenly spaced from the last training step on ("trailing"). */
function uniformTimesteps(steps: number): number[] {
  const ratio = TRAIN_STEPS / steps;
  // As numpy.arange counts and steps: rounding errors included.
  const delta = TRAIN_STEPS - ratio - TRAIN_STEPS;
  return Array.from({ length: Math.ceil(TRAIN_STEPS / ratio) }, (_, i) => roundHalfEven(TRAIN_STEPS + i * delta) - 1);
}

/** As Python rounds. */
export function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Denser in the early (noisy) or the late part: arXiv 2402.10404, Eq. 12-14. */
export function timesteps(schedule: "early" | "late", steps: number, strength: number): number[] {
  const sampled = sample(schedule, steps, strength);
  if (areDistinct(sampled)) return sampled;
  const limit = Math.ceil(TRAIN_STEPS * Math.log(TRAIN_STEPS));
  let smallest = 0;
  while (smallest <= limit && !areDistinct(sample(schedule, steps, smallest))) smallest++;
  const advice =
    smallest > limit ? `no strength works for ${steps} steps: use fewer` : `the smallest that works is ${smallest}`;
  throw new Error(
    `strength ${strength} repeats time steps for ${steps} ${schedule} steps of ${TRAIN_STEPS}: ${advice}`,
  );
}

function sample(schedule: "early" | "late", steps: number, strength: number): number[] {
  const delta = TRAIN_STEPS ** (1 / (steps + strength));
  const powers = Array.from({ length: steps }, (_, i) => Math.trunc(delta ** (i + 1 + strength)));
  if (schedule === "early") return [TRAIN_STEPS - 1, ...powers.map((power) => TRAIN_STEPS - power)].slice(0, steps);
  const [first = 0, ...rest] = powers.reverse();
  return [Math.min(first, TRAIN_STEPS - 1), ...rest];
}

function areDistinct(times: readonly number[]): boolean {
  return (times.at(-1) ?? 0) >= 0 && times.every((time, i) => i === 0 || time < (times[i - 1] as number));
}

/** The clean latents that a v-prediction stands for. */
export function predictClean(latents: Float32Array, prediction: Float32Array, sigma: number): Float32Array {
  const alpha = 1 / Math.sqrt(sigma * sigma + 1);
  return latents.map((value, i) => alpha * value - sigma * alpha * (prediction[i] as number));
}

/** The latents of the next step; `nextSigma` is 0 after the last. */
export function solverStep(latents: Float32Array, clean: Float32Array, sigma: number, nextSigma: number): Float32Array {
  const nextAlpha = 1 / Math.sqrt(nextSigma * nextSigma + 1);
  const alpha = 1 / Math.sqrt(sigma * sigma + 1);
  const keep = (nextSigma * nextAlpha) / (sigma * alpha);
  const add = nextAlpha * (1 - nextSigma / sigma);
  return latents.map((value, i) => keep * value + add * (clean[i] as number));
}
