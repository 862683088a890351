// What expectations can ask about a run on the page.

import type { Maps, Run } from "../../app/coreExports";
import type { Entry } from "../runHistory";
import type { ConceptFacts, RunFacts } from "./expectations";

/** The facts about a run as it stands; `entries`: the runs that the kernel keeps. Tracked by signals. */
export function factsOf(run: Run, entries: readonly Entry[]): RunFacts {
  const { info } = run;
  const scores = run.scores.value;
  run.revision.value;
  return {
    isFinished: run.end.value !== null,
    prompt: info.prompt,
    seed: info.seed,
    steps: run.count.value,
    guidance: info.guidance_scale,
    schedule: info.schedule,
    weights: info.weights,
    otherRuns: entries.filter((entry) => entry.run !== info.run && entry.finished > 0),
    concept(name): ConceptFacts | null {
      const index = scores?.concepts.findIndex((concept) => fold(concept) === name) ?? -1;
      if (!scores || index < 0) return null;
      const column = (rows: readonly (readonly (number | null)[] | undefined)[]) =>
        Array.from(rows, (row) => row?.[index]);
      const share = scores.share && scores.concepts.length > 1 ? column(scores.share) : null;
      return { cosine: column(scores.cosine), share, emergence: scores.emergence[index] ?? null };
    },
    halfOfMap(word, half) {
      const words = info.words.flatMap(({ kind, text }, index) =>
        kind === "word" && text.toLowerCase() === word ? [index] : [],
      );
      if (words.length === 0 || !run.hasMaps) return null;
      return Array.from(run.steps, (step) => step && halfShare(step.maps, words, half));
    },
  };
}

function fold(concept: string): string {
  return concept.toLowerCase().trim().split(/\s+/).join(" ");
}

/** The share of the sum of some words' maps in a half of the image; a middle row or column counts half to each side. */
export function halfShare(
  { width, height, scales, data }: Maps,
  words: readonly number[],
  half: string,
): number | null {
  const isAcross = half === "left" || half === "right";
  let [first, total] = [0, 0];
  for (const word of words) {
    const scale = scales[word];
    if (!scale) continue;
    const [lo, hi] = scale;
    for (let cell = 0; cell < width * height; cell++) {
      const value = lo + ((data[word * width * height + cell] as number) / 255) * (hi - lo);
      const centre = isAcross ? ((cell % width) + 0.5) / width : (Math.floor(cell / width) + 0.5) / height;
      total += value;
      if (centre < 0.5) first += value;
      else if (centre === 0.5) first += value / 2;
    }
  }
  if (total <= 0) return null;
  return half === "left" || half === "top" ? first / total : 1 - first / total;
}
