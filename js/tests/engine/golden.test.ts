// The engine's numbers against those of torch, diffusers and the tokenizer: tests/golden/write_engine.py writes them.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { Schedule } from "../../src/core/host";
import { splitPrompt } from "../../src/core/splitWords";
import { presence } from "../../src/engine/calibration";
import { pointsOf, replaceWord } from "../../src/engine/decision";
import { decisionOf } from "../../src/engine/decisionCurve";
import { compete, findRivals, wordsByShare } from "../../src/engine/exclusiveWords";
import { emergence } from "../../src/engine/meter";
import type { Networks } from "../../src/engine/networks";
import { OutsideWords } from "../../src/engine/outsideWords";
import { findWords } from "../../src/engine/promptWords";
import { MersenneTwister, randomNormal } from "../../src/engine/random";
import { refine } from "../../src/engine/refinement";
import { noiseLevels, predictClean, solverStep } from "../../src/engine/scheduler";
import { Tokenizer } from "../../src/engine/tokenizer";

interface Golden {
  readonly tokens: readonly {
    readonly prompt: string;
    readonly ids: readonly number[];
    readonly words: readonly (readonly [text: string, tokens: number[], tokenTexts: string[]])[];
    readonly split: readonly string[];
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
  readonly refinement: {
    readonly maps: readonly number[];
    readonly weights: readonly number[];
    readonly refined: readonly number[];
    readonly words: readonly string[];
    readonly concepts: readonly string[];
    readonly mean: readonly number[];
    readonly last: readonly number[];
    readonly competed: readonly number[];
  };
  readonly emergence: readonly {
    readonly cosine: readonly number[][];
    readonly null_band: readonly (readonly [number, number])[];
    readonly emergence: readonly (number | null)[];
  }[];
  readonly presence: readonly {
    readonly concepts: readonly string[];
    readonly sigmas: readonly number[];
    readonly cosine: readonly number[][];
    readonly null_band: readonly (readonly [number, number])[];
    readonly present: readonly (readonly (number | null)[])[];
    readonly emergence: readonly (number | null)[];
  }[];
  readonly decisions: readonly {
    readonly points: readonly number[];
    readonly shares: readonly (readonly number[])[];
    readonly mean: readonly number[];
    readonly band: readonly (number | null)[];
    readonly decision: number | null;
    readonly interval: readonly (number | null)[];
    readonly agreeing: number;
  }[];
  readonly replacements: readonly {
    readonly prompt: string;
    readonly word: string;
    readonly to: string;
    readonly replaced: string;
  }[];
  readonly outside: readonly {
    readonly prompt: string;
    readonly concepts: readonly string[];
    readonly words: readonly (readonly [text: string, tokens: number[], tokenTexts: string[]])[];
    readonly positions: readonly (readonly number[])[];
    readonly ids: readonly (readonly number[])[];
  }[];
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

  it("splits them into words before a run as the kernel does", () => {
    for (const { prompt, split } of golden.tokens) expect([prompt, splitPrompt(prompt)]).toEqual([prompt, split]);
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

describe("words outside the prompt", () => {
  it.each(golden.outside)("are encoded as by the tracer for “$prompt”", async ({ prompt, concepts, ...row }) => {
    const outside = new OutsideWords(prompt, concepts, tokenizer);
    expect(outside.words.map(({ text, tokens, token_texts }) => [text, tokens, token_texts])).toEqual(row.words);
    const encoded: (readonly number[])[] = [];
    const networks = {
      encodeText: async (rows: readonly (readonly number[])[]) => {
        encoded.push(...rows);
        return new Float32Array(0);
      },
    } as unknown as Networks;
    const input = await outside.input(networks);
    expect(encoded).toEqual(row.ids);
    const positions = row.ids.map((_, word) => {
      const members = input?.members.subarray(32 * word, 32 * (word + 1)) ?? [];
      return [...members].flatMap((member, position) => (member === 1 ? [position] : []));
    });
    expect(positions).toEqual(row.positions);
  });

  it("are none where the prompt has them all", async () => {
    const outside = new OutsideWords("a red circle", ["Circle", "red circle"], tokenizer);
    expect([outside.words, await outside.input({} as Networks)]).toEqual([[], null]);
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

describe("refined maps", () => {
  it("are those of the tracer, of the row that is the prompt's", () => {
    const { maps, weights, refined } = golden.refinement;
    const attention = Float32Array.from([...weights.map(() => 0.25), ...weights]);
    expectClose(refine(Float32Array.from(maps), attention, 1, 4), refined, 1e-5);
  });

  it("let words compete that exclude each other, as in the tracer", () => {
    const { words, concepts, mean, last, weights, competed } = golden.refinement;
    const typed = (texts: readonly string[], kind: "word" | "concept") =>
      texts.map((text) => ({ text, kind, tokens: [1], token_texts: [text] }));
    const all = [...typed(words, "word"), ...typed(concepts, "concept")];
    const maps = Float32Array.from(mean);
    const competition = compete(findRivals(all), maps, Float32Array.from(last), 4);
    // Red and green with blue; star with boat; sea with boat, star and night; of the prompt night with boat.
    expect([...competition.keys()].sort()).toEqual([3, 4, 5, 7, 8]);
    expectClose(refine(maps, Float32Array.from(weights), 0, 4, competition), competed, 1e-5);
    expect(wordsByShare(all)).toEqual(["night", "sea"]);
    expect(findRivals([...typed(["a", "boat"], "word"), ...typed(["red", "sky"], "concept")])).toEqual([]);
  });

  it("leave out words without tokens", () => {
    const maps = Float32Array.of(Number.NaN, Number.NaN, 1, 3);
    expect([...refine(maps, Float32Array.of(1, 0, 0, 1), 0, 2)]).toEqual(
      [Number.NaN, Number.NaN, 0.2, 1.8].map(Math.fround),
    );
  });
});

describe("emergence", () => {
  it.each(golden.emergence)("is that of the notebook: $emergence", ({ cosine, null_band, emergence: wanted }) => {
    expect(emergence(cosine, null_band)).toEqual(wanted);
  });
});

describe("presence", () => {
  const calibration = JSON.parse(readFileSync(new URL("weights/clip/calibration.json", scenes), "utf8"));

  it.each(golden.presence)("is that of the calibrated meter: $present", (row) => {
    const present = row.cosine.map((cosine, step) =>
      presence(calibration, row.concepts, cosine, row.null_band[step]?.[1] as number, row.sigmas[step] as number),
    );
    expect(present).toEqual(row.present);
    expect(emergence(row.cosine, row.null_band, present)).toEqual(row.emergence);
  });
});

describe("decision curve", () => {
  it.each(golden.decisions)("of $shares.length seeds has the statistics of the notebook", (row) => {
    const { mean, band, decision, interval, agreeing } = decisionOf(row.points, row.shares);
    const known = (values: readonly number[]) => values.map((value) => (Number.isFinite(value) ? value : null));
    const close = (values: readonly number[], wanted: readonly (number | null)[]) => {
      expect(known(values).map((value) => value === null)).toEqual(wanted.map((value) => value === null));
      expectClose(values.filter(Number.isFinite), wanted.filter((value) => value !== null) as number[], 1e-6);
    };
    close(mean, row.mean);
    close(band.flat(), row.band);
    close([decision], [row.decision]);
    close(interval, row.interval);
    expect(agreeing).toBe(row.agreeing);
  });

  it.each(golden.replacements)("replaces $word in $prompt", ({ prompt, word, to, replaced }) => {
    expect(replaceWord(prompt, word, to)).toBe(replaced);
  });

  it("refuses words that are not there, and the same word", () => {
    expect(() => replaceWord("a red circle", "blue", "green")).toThrow(
      "word “blue” is not in the prompt; its words are: a, red, circle",
    );
    expect(() => replaceWord("a red circle", "red", "RED")).toThrow("to must differ from word");
  });

  it("has all steps of a short run, and 16 of a long one", () => {
    expect(pointsOf(4)).toEqual([0, 1, 2, 3, 4]);
    expect(pointsOf(30)).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30]);
    expect(pointsOf(1000)).toHaveLength(16);
  });
});
