// Evaluates what a note expects of a run, as diffvis_widget/traces/expectations does: tests/golden/expectations.json ties
// both. Conditions are data: nothing in them is executed.

import { type Expects, number, object, text } from "../../app/coreExports";

type Series = readonly (number | null | undefined)[];

/** What is known about a concept: its values at each step, and the index of the step at which it emerges. */
export interface ConceptFacts {
  readonly cosine: Series;
  readonly share: Series | null;
  readonly emergence: number | null;
}

/** What an expectation can ask about a run. */
export interface RunFacts {
  readonly isFinished: boolean;
  readonly prompt: string;
  readonly seed: number | null;
  /** The number of finished steps. */
  readonly steps: number;
  readonly guidance: number | null;
  readonly schedule: string;
  /** Factors of words in lower case; null for a dropped word. */
  readonly weights: Readonly<Record<string, number | null>>;
  /** The other finished runs. */
  readonly otherRuns: readonly { readonly prompt: string; readonly seed: number | null }[];
  concept(name: string): ConceptFacts | null;
  /** The share of a word's heat map in a half of the image at each step; null where there is no such word or map. */
  halfOfMap(word: string, half: string): Series | null;
}

export interface Outcome {
  readonly met: boolean;
  readonly reason: string;
}

const QUANTITY = object({ name: text, of: text, half: text, value: number });
type Quantity = ReturnType<typeof QUANTITY>;
type When = "first" | "last" | "any" | "every" | "average" | number;

const CHANGES_BY_STEP = ["meter", "share", "map"];
const OPERATORS: ReadonlyMap<unknown, (a: number, b: number) => boolean> = new Map([
  [">", (a, b) => a > b],
  [">=", (a, b) => a >= b],
  ["<", (a, b) => a < b],
  ["<=", (a, b) => a <= b],
  ["=", (a, b) => a === b],
  ["!=", (a, b) => a !== b],
]);
/** A run lacks a number, or the condition is of a newer kind; the message says what. */
class Missing extends Error {}

/** Whether a run is what a note expects. The reason names the conditions that are not met, or all where all are. */
export function evaluate(expects: Expects, run: RunFacts): Outcome {
  if (!run.isFinished || run.steps === 0) return { met: false, reason: "the run is not finished" };
  const outcomes = expects.conditions.map((condition) => outcomeOf(condition as Condition, run));
  const met = outcomes.length > 0 && outcomes.every((outcome) => outcome.met);
  const reasons = outcomes.filter((outcome) => met || !outcome.met).map(({ reason }) => reason);
  return { met, reason: [...new Set(reasons)].join("; ") };
}

interface Condition {
  readonly kind?: unknown;
  readonly phrase?: unknown;
  readonly present?: unknown;
  readonly schedule?: unknown;
  readonly equal?: unknown;
  readonly left?: unknown;
  readonly right?: unknown;
  readonly operator?: unknown;
  readonly when?: unknown;
}

function outcomeOf(condition: Condition, run: RunFacts): Outcome {
  try {
    if (condition.kind === "prompt") {
      const phrase = text(condition.phrase, "phrase");
      const isPresent = hasPhrase(run.prompt, phrase);
      return { met: isPresent === condition.present, reason: `the prompt has ${isPresent ? "" : "no "}“${phrase}”` };
    }
    if (condition.kind === "schedule") {
      const met = (run.schedule === condition.schedule) === condition.equal;
      return { met, reason: `the schedule is ${run.schedule}` };
    }
    return compare(condition, run);
  } catch (error) {
    return { met: false, reason: error instanceof Missing ? error.message : "this page cannot check that" };
  }
}

function hasPhrase(prompt: string, phrase: string): boolean {
  const [words, wanted] = [wordsOf(prompt), wordsOf(phrase)];
  return wanted.length > 0 && words.some((_, start) => wanted.every((word, i) => words[start + i] === word));
}

function wordsOf(value: string): string[] {
  return value.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
}

function compare(condition: Condition, run: RunFacts): Outcome {
  const [left, right] = [QUANTITY(condition.left, "left"), QUANTITY(condition.right, "right")];
  const holds = OPERATORS.get(condition.operator);
  const when = condition.when as When;
  if (condition.kind !== "compare" || !holds) throw new Error("a condition of a newer kind");
  const [a, b] = [seriesOf(left, run), seriesOf(right, run)];
  const changes = [left, right].some(({ name }) => CHANGES_BY_STEP.includes(name));
  const valuesAt = (step: number): readonly [number, number] => [valueAt(left, a, step), valueAt(right, b, step)];
  const outcome = (values: readonly [number, number], at: string, met = holds(...values)): Outcome => {
    const described = [left, right].flatMap((quantity, i) =>
      quantity.name === "number" ? [] : [describe(quantity, values[i] as number)],
    );
    return { met, reason: described.join(", ") + (changes ? ` ${at}` : "") };
  };

  const last = run.steps - 1;
  const steps = Array.from({ length: run.steps }, (_, step) => step);
  if (when === "average") {
    const mean = (quantity: Quantity, values: Series) =>
      steps.reduce((sum, step) => sum + valueAt(quantity, values, step), 0) / run.steps;
    return outcome([mean(left, a), mean(right, b)], "on average");
  }
  if (when === "any" || when === "every") {
    const step = steps.find((index) => holds(...valuesAt(index)) === (when === "any"));
    if (step === undefined)
      return outcome(
        valuesAt(last),
        `at step ${last + 1}, and at ${when === "any" ? "no" : "every"} step as expected`,
        when === "every",
      );
    return outcome(valuesAt(step), `at step ${step + 1}`);
  }
  const step = when === "first" ? 0 : when === "last" ? last : number(when, "when");
  if (step > last) throw new Missing(`this run has ${run.steps} steps`);
  return outcome(valuesAt(step), `at step ${step + 1}`);
}

/** The number at all steps. */
function seriesOf(quantity: Quantity, run: RunFacts): Series {
  const { name, of, half } = quantity;
  if (name === "meter") return conceptOf(of, run).cosine;
  if (name === "share") {
    const { share } = conceptOf(of, run);
    if (!share) throw new Missing("a share needs two concepts at least: add another one to the meters");
    return share;
  }
  if (name === "map") {
    const shares = run.halfOfMap(of, half);
    if (!shares) throw new Missing(`there is no heat map of “${of}”`);
    return shares;
  }
  return new Array<number>(run.steps).fill(constantOf(quantity, run));
}

function constantOf({ name, of, value }: Quantity, run: RunFacts): number {
  switch (name) {
    case "number":
      return value;
    case "steps":
      return run.steps;
    case "seed":
    case "guidance":
      return run[name] ?? missing(`the ${name} of this run is not known`);
    case "runs":
      return 1 + run.otherRuns.length;
    case "seeds": {
      const samePrompt = run.otherRuns.filter(({ prompt }) => prompt === run.prompt);
      return new Set([run.seed, ...samePrompt.map(({ seed }) => seed)]).size;
    }
    case "weight":
      if (!hasPhrase(run.prompt, of)) missing(`the prompt has no “${of}”`);
      return Object.hasOwn(run.weights, of) ? (run.weights[of] ?? 0) : 1;
    case "emergence": {
      const { cosine, emergence } = conceptOf(of, run);
      const isMeasured = Array.from({ length: run.steps }, (_, step) => cosine[step]).every(
        (cosineAt) => cosineAt != null,
      );
      if (!isMeasured) missing(`“${of}” is not measured at every step yet`);
      return (emergence ?? missing(`“${of}” does not emerge`)) + 1;
    }
    default:
      throw new Error("a quantity of a newer kind");
  }
}

function missing(message: string): never {
  throw new Missing(message);
}

function conceptOf(name: string, run: RunFacts): ConceptFacts {
  return run.concept(name) ?? missing(`“${name}” is not measured: add it to the concepts`);
}

function valueAt({ name, of }: Quantity, values: Series, step: number): number {
  return values[step] ?? missing(`the ${name} of “${of}” is not known at step ${step + 1}`);
}

function describe({ name, of, half }: Quantity, value: number): string {
  switch (name) {
    case "meter":
    case "share":
      return `${name} of “${of}” ${value.toFixed(3)}`;
    case "map":
      return `${value.toFixed(2)} of the map of “${of}” in the ${half} half`;
    case "emergence":
      return `“${of}” emerges at step ${plain(value)}`;
    case "weight":
      return `weight of “${of}” ${plain(value)}`;
    case "steps":
    case "runs":
    case "seeds":
      return `${plain(value)} ${value === 1 ? name.slice(0, -1) : name}`;
    default:
      return `${name} ${plain(value)}`;
  }
}

/** Without needless zeros, at most two decimals. */
function plain(value: number): string {
  return value.toFixed(2).replace(/\.?0+$/, "");
}
