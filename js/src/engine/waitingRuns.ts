// The runs that a request of the page stands for: one, one after a draft, or several seeds.

import type { RunRequest } from "./request";

const MAX_SEEDS = 9;
/** The steps of the run that answers first while a slider is dragged. */
const DRAFT_STEPS = 8;

/** A run that waits for its turn. */
export interface Waiting {
  readonly id: string;
  readonly request: RunRequest;
  readonly part: "" | "draft" | "seeds";
}

/** These runs, in their order. */
export function planRuns(
  request: RunRequest,
  { seeds, draft }: { readonly seeds: number; readonly draft: boolean },
  nextId: () => string,
): Waiting[] {
  const waiting = (part: Waiting["part"], over: Partial<RunRequest> = {}): Waiting => ({
    id: nextId(),
    request: { ...request, ...over },
    part,
  });
  if (!(Number.isInteger(seeds) && seeds >= 0 && seeds <= MAX_SEEDS))
    throw new Error(`seeds must be a whole number from 0 to ${MAX_SEEDS}, not ${seeds}`);
  if (seeds > 0) return Array.from({ length: seeds }, (_, i) => waiting("seeds", { seed: request.seed + i }));
  const isDrafted = draft && request.schedule === "uniform" && request.steps > DRAFT_STEPS;
  return [...(isDrafted ? [waiting("draft", { steps: DRAFT_STEPS })] : []), waiting("")];
}
