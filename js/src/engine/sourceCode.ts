// The Python that repeats a run in a notebook, as diffvis_widget/export/source_code.py writes it.

import { presentWeights, type RunRequest } from "./request";

/** Text as a Python literal: JSON's escapes are Python's too. */
function literal(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

export function runSource(request: RunRequest): string {
  const { prompt, seed, steps, guidance_scale, negative_prompt, schedule, schedule_strength } = request;
  const settings: Record<string, unknown> = { seed, num_inference_steps: steps, guidance_scale };
  if (negative_prompt) settings.negative_prompt = negative_prompt;
  if (schedule !== "uniform") Object.assign(settings, { schedule, schedule_strength });
  const lines = Object.entries(settings).map(([name, value]) => `    ${name}=${literal(value)},`);
  const interventions = Object.entries(presentWeights(request)).map(([word, factor]) =>
    factor === null ? `dv.intervene.drop(${literal(word)})` : `dv.intervene.weight(${literal(word)}, ${factor})`,
  );
  if (interventions.length > 0) lines.push(`    interventions=[${interventions.join(", ")}],`);
  const start = ["import diffvis_widget as dv", "", "pipe = dv.load()", "trace = dv.trace("];
  return `${[...start, "    pipe,", `    ${literal(prompt)},`, ...lines, ")"].join("\n")}\n`;
}

/** How the names of a run's files begin. */
export function fileStem(prompt: string): string {
  const words =
    prompt
      .normalize("NFKC")
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.join("-").slice(0, 48).replace(/-$/, "") || "run";
}
