// Which heat maps are shown: the refined ones of a run that has them, or the attention probabilities themselves.

import type { StepMessage } from "./protocol";

export type MapKind = "refined" | "probability";

const refinedSteps = new WeakMap<StepMessage, StepMessage>();

/** The step with its refined maps in place of its probabilities, if these are chosen and there: always the same object. */
export function withMaps(step: StepMessage, kind: MapKind): StepMessage {
  if (kind !== "refined" || !step.refined) return step;
  const shown = refinedSteps.get(step) ?? { ...step, maps: step.refined };
  refinedSteps.set(step, shown);
  return shown;
}

/** What a value of a step's maps is counted in: refined maps in multiples of the mean of the map, probabilities in none. */
export function unitOf({ maps, refined }: StepMessage): string {
  return maps === refined ? "×" : "";
}
