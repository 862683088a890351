// The engine's numbers against those of torch, diffusers and the tokenizer: tests/golden/write_engine.py writes them.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { Schedule } from "../../src/core/host";
import { findWords } from "../../src/engine/promptWords";
import { MersenneTwister, randomNormal } from "../../src/engine/random";
import { noiseLevels, predictClean, solverStep } from "../../src/engine/scheduler";
import { Tokenizer } from "../../src/engine/tokenizer";

interface Golden {
  readonly tokens: readonly {
    readonly prompt: string;
    readonly ids: readonly number[];
    readonly words: readonly (readonly [text: string, tokens: number[], tokenTexts: string[]])[];
  }[];
  readonly noise: readonly {
    readonly seed: number;
    readonly bits: readonly number[];
    readonly noise: readonly number[];
    readonly short: readonly number[];
  }[];
  readonly schedules: readonly {
    readonly schedule: Schedule;
    readonly steps: number;
    readonly strength: number;
    readonly error?: string;
    readonly timesteps: readonly number[];
    readonly sigmas: readonly number[];
  }[];
  readonly solver: { readonly sigmas: readonly number[]; readonly latents: readonly (readonly number[])[] };
}

const root = new URL("../../../", import.meta.url);
const golden = JSON.parse(gunzipSync(readFileSync(new URL("tests/golden/engine.json.gz", root))).toString()) as Golden;
const scenes = new URL("diffvis_widget/scenes/", root);
const { model } = JSON.parse(readFileSync(new URL("weights/pipeline/tokenizer/tokenizer.json", scenes), "utf8")) as {
  model: { merges: (string | string[])[] };
};
const tokenizer = new Tokenizer(model.merges.map((merge) => (Array.isArray(merge) ? merge.join(" ") : merge)));
const { sigmas } = (
  JSON.parse(readFileSync(new URL("page/graphs/graphs.json", scenes), "utf8")) as { unet: { sigmas: number[] } }
).unet;

/** The difference in units of the larger of 1 and the value. */
const expectClose = (values: ArrayLike<number>, wanted: readonly number[], tolerance: number) => {
  expect(values.length).toBe(wanted.length);
  wanted.forEach((value, i) => {
    expect(Math.abs((values[i] as number) - value)).toBeLessThanOrEqual(tolerance * Math.max(1, Math.abs(value)));
  });
};

describe("tokenizer", () => {
  it("gives the tokens of the pipeline for 500 prompts", () => {
    expect(golden.tokens.length).toBe(500);
    for (const { prompt, ids } of golden.tokens) {
      const encoded = tokenizer.encode(prompt).map((token) => token.id);
      const padded = [...ids, ...Array.from({ length: 32 - ids.length }, () => 7681)];
      expect([prompt, encoded]).toEqual([prompt, padded]);
    }
  });

  it("finds the words of the tracer, with their tokens", () => {
    for (const { prompt, words } of golden.tokens) {
      const typed = findWords(prompt, tokenizer.encode(prompt)).filter(({ kind }) => kind !== "padding");
      expect([prompt, typed.map(({ text, tokens, token_texts }) => [text, tokens, token_texts])]).toEqual([
        prompt,
        words,
      ]);
    }
  });
});

describe("noise", () => {
  it.each(golden.noise)("has the integers of torch for seed $seed, bit for bit", ({ seed, bits }) => {
    const generator = new MersenneTwister(seed);
    // torch draws 64 bits for an integer below 2 ** 32; its remainder is the later half. Every 80th integer is stored.
    const drawn = Array.from({ length: 1600 }, () => generator.next()).filter((_, i) => i % 160 === 1);
    expect(drawn).toEqual(bits);
  });

  it.each(golden.noise)("is that of torch for seed $seed", ({ seed, noise, short }) => {
    const drawn = randomNormal(seed, 576).filter((_, i) => i % 9 === 0);
    expectClose(drawn, noise, 1e-6);
    expectClose(randomNormal(seed, 21), short, 1e-6);
  });
});

describe("schedule", () => {
  it.each(golden.schedules)("$schedule, $steps steps, strength $strength", (row) => {
    const levels = () => noiseLevels(row.schedule, row.steps, row.strength, sigmas);
    if (row.error !== undefined) return expect(levels).toThrow(row.error);
    expect(levels().map(({ timestep }) => timestep)).toEqual(row.timesteps);
    expectClose([...levels().map(({ sigma }) => sigma), 0], row.sigmas, 1e-6);
  });
});

describe("solver", () => {
  it("takes the steps of diffusers", () => {
    const { sigmas, latents } = golden.solver;
    let current: Float32Array = Float32Array.from({ length: 8 }, (_, i) => -2 + (4 * i) / 7);
    latents.forEach((wanted, step) => {
      const prediction = current.map((value) => Math.cos(value * (step + 1)));
      const sigma = sigmas[step] as number;
      current = solverStep(current, predictClean(current, prediction, sigma), sigma, sigmas[step + 1] as number);
      expectClose(current, wanted, 1e-5);
    });
  });
});
