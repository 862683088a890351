// The maps of explain methods that need no gradient: the jobs that compute them, and estimate how long they take.

import type { Model } from "./decision";
import type { EngineRun, ShownStep } from "./engineRun";
import { quantise } from "./heatMaps";
import type { JobFunction, JobResult, Task } from "./jobs";
import { rise, USUAL_MASKS } from "./rise";
import { Sampler } from "./sampler";

const METHOD = "df_rise";
const SIDE = 12;

/** The job that computes the map of a step, which is kept with the run. Throws an error that says what is wrong. */
export function prepareSaliency(model: Model, run: EngineRun, { step, method }: Task): JobFunction {
  if (method !== METHOD) throw new Error("This method works in the notebook, not in this page.");
  const shown = run.at(step);
  return async (report) => {
    const started = performance.now();
    const { latents } = shown.record;
    const sampler = samplerAt(model, run, shown);
    const { map, masks } = await rise(latents, (masked) => sampler.output(masked), report);
    const { data, scales } = quantise(map, map.length);
    const entry = { method, step: step as number, grid: [SIDE, SIDE], scale: scales[0] ?? null };
    run.saliency = [...run.saliency.filter((other) => other.entry.step !== step), { entry, data }];
    return {
      content: { maps: [entry], masks_used: masks, took: (performance.now() - started) / 1000 },
      buffers: [data],
    };
  };
}

/** The job that estimates the seconds of a map, for the methods that work in a page. */
export function prepareEstimates(model: Model, run: EngineRun): JobFunction {
  return async (): Promise<JobResult> => {
    const shown = run.steps[0];
    if (!shown) return { content: { seconds: {} }, buffers: [] };
    const sampler = samplerAt(model, run, shown);
    await sampler.output(shown.record.latents); // encodes the prompt too
    const started = performance.now();
    await sampler.output(shown.record.latents);
    const seconds = (USUAL_MASKS * (performance.now() - started)) / 1000;
    return { content: { seconds: { [METHOD]: seconds } }, buffers: [] };
  };
}

function samplerAt({ networks, settings, tokenizer }: Model, run: EngineRun, { record }: ShownStep): Sampler {
  return new Sampler(networks, settings, tokenizer, run.request, { index: record.index, latents: record.latents });
}
