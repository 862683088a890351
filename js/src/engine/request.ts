// The request of a run, validated as the kernel validates it: an error says what is wrong and what would work.

import type { Schedule, Weights } from "../core/host";

export interface RunRequest {
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly seed: number;
  readonly steps: number;
  readonly guidance_scale: number;
  readonly schedule: Schedule;
  readonly schedule_strength: number;
  readonly weights: Weights;
}

const MAX_PROMPT = 20_000;
const MAX_WEIGHT = 100;
const MAX_CONCEPTS = 256;
const MAX_CONCEPT = 200;

export interface Defaults {
  readonly steps: number;
  readonly guidance_scale: number;
}

/** A request of validated settings; settings that are missing or null get their defaults. */
export function readRequest(values: Readonly<Record<string, unknown>>, defaults: Defaults): RunRequest {
  return {
    prompt: textOf("prompt", values.prompt ?? ""),
    negative_prompt: textOf("negative_prompt", values.negative_prompt ?? ""),
    seed: numberOf("seed", values.seed ?? 0, 0, Number.MAX_SAFE_INTEGER, true),
    steps: numberOf("steps", values.steps ?? defaults.steps, 1, 1000, true),
    guidance_scale: numberOf("guidance_scale", values.guidance_scale ?? defaults.guidance_scale, 0, 1000),
    schedule: scheduleOf(values.schedule ?? "uniform"),
    schedule_strength: numberOf("schedule_strength", values.schedule_strength ?? 60, 0, 100_000),
    weights: weightsOf(values.weights ?? {}),
  };
}

/** A list of different concepts without white space around them. */
export function readConcepts(value: unknown): string[] {
  if (!Array.isArray(value) || value.some((entry) => typeof entry !== "string" || entry.trim() === ""))
    throw new Error('concepts must be a list of texts, such as ["circle", "red"]');
  const concepts = [...new Set(value.map((entry: string) => entry.trim().split(/\s+/).join(" ")))];
  if (concepts.length > MAX_CONCEPTS) throw new Error(`concepts must be at most ${MAX_CONCEPTS} texts`);
  if (concepts.some((concept) => concept.length > MAX_CONCEPT))
    throw new Error(`concepts must be texts of at most ${MAX_CONCEPT} characters`);
  return concepts;
}

function textOf(name: string, value: unknown): string {
  if (typeof value !== "string" || value.length > MAX_PROMPT)
    throw new Error(`${name} must be a text of at most ${MAX_PROMPT} characters`);
  return value;
}

function numberOf(name: string, value: unknown, least: number, most: number, isWhole = false): number {
  const kind = isWhole ? "a whole number" : "a number";
  if (typeof value !== "number" || !(value >= least && value <= most) || (isWhole && !Number.isInteger(value)))
    throw new Error(`${name} must be ${kind} from ${least} to ${most}, not ${String(value)}`);
  return value;
}

function scheduleOf(value: unknown): Schedule {
  if (value !== "uniform" && value !== "early" && value !== "late")
    throw new Error(`schedule must be "uniform", "early" or "late", not ${JSON.stringify(value)}`);
  return value;
}

function weightsOf(value: unknown): Weights {
  const weights: Record<string, number | null> = {};
  for (const [word, factor] of Object.entries(value as object)) {
    if (factor !== null && !(typeof factor === "number" && Math.abs(factor) <= MAX_WEIGHT))
      throw new Error(`weights must be numbers from -${MAX_WEIGHT} to ${MAX_WEIGHT}; that of ${word} is ${factor}`);
    weights[word.toLowerCase()] = factor;
  }
  return weights;
}

/** The weights of words that occur in the prompt; the others wait for a prompt that has them. */
export function presentWeights({ prompt, weights }: RunRequest): Weights {
  return Object.fromEntries(Object.entries(weights).filter(([word]) => occurs(word, prompt)));
}

/** Whether a prompt has a word, or several that follow one another, in any case. */
export function occurs(text: string, prompt: string): boolean {
  const escaped = text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])${escaped}(?![\\p{L}\\p{N}_])`, "iu").test(prompt);
}

/** What an error says. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
