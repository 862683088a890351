// What a page that paints can compute on request, by the kind of the task.

import { type Model, prepareDecision } from "./decision";
import type { EngineRun } from "./engineRun";
import type { JobFunction, Task } from "./jobs";
import { prepareEstimates, prepareSaliency } from "./methods";
import { prepareAttention } from "./places";

export const NEEDS_NOTEBOOK = "This works in the notebook, not in this page.";

/** The job of a task. `getRun` gives the run of an identifier, and throws where there is none. */
export function prepareJob(model: Model, task: Task, getRun: (id: string) => EngineRun): JobFunction {
  const run = () => getRun(String(task.run));
  if (task.kind === "decision") return prepareDecision(model, run(), task);
  if (task.kind === "attention") return prepareAttention(run(), task);
  if (task.kind === "saliency") return prepareSaliency(model, run(), task);
  if (task.kind === "estimates") return prepareEstimates(model, run());
  throw new Error(NEEDS_NOTEBOOK);
}
