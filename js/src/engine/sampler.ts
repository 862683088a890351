// Denoises from the noise of a seed, one step at a time, as the pipeline in Python does.

import { type Competition, compete, findRivals, type Rivals } from "./exclusiveWords";
import { appendWords, headMaps, type Layer, type LayerMaps, meanMaps, wordMapsOf } from "./heatMaps";
import { type Array32, type Evaluation, LATENT_SIZE, type Networks, TOKENS } from "./networks";
import { OutsideWords } from "./outsideWords";
import { findWords, foldWord, type PromptWord } from "./promptWords";
import { randomNormal } from "./random";
import { refine } from "./refinement";
import { presentWeights, type RunRequest } from "./request";
import { type NoiseLevel, noiseLevels, predictClean, solverStep } from "./scheduler";
import type { EngineSettings } from "./settings";
import type { Tokenizer } from "./tokenizer";

const CELLS = 144;

export interface StepRecord {
  readonly index: number;
  readonly timestep: number;
  readonly sigma: number;
  /** The latents that enter the step. */
  readonly latents: Array32;
  /** The predicted clean latents. */
  readonly clean: Array32;
  /** Conditional minus unconditional prediction, RMS over channels; null without guidance. */
  readonly guidance: Array32 | null;
  readonly maps: readonly LayerMaps[];
  /** The maps of all words, refined by self-attention: (words, height, width). */
  readonly refined: Float32Array;
  /** The self-attention that refines them: (positions, positions). */
  readonly attention: Array32;
}

/** Where a run begins that goes on from another one. */
export interface Start {
  readonly index: number;
  /** The latents that enter that step. */
  readonly latents: Array32;
}

export class Sampler {
  /** Those of the prompt, then those outside it. */
  readonly words: readonly PromptWord[];
  readonly #promptWords: readonly PromptWord[];
  readonly #outside: OutsideWords;
  readonly #rivals: readonly Rivals[];
  readonly planned: number;
  #latents: Array32;
  #text: Array32 | null = null;
  #index: number;
  readonly #levels: readonly NoiseLevel[];
  readonly #ids: number[][];
  readonly #isGuided: boolean;
  readonly #mask: Float32Array;
  readonly #factors: Float32Array;

  /** Throws for a schedule or weights that are impossible. `start`: by default the noise of the seed. `concepts`: words
   *  whose maps are wanted; those that the prompt has are left out. */
  constructor(
    private readonly networks: Networks,
    private readonly settings: EngineSettings,
    tokenizer: Tokenizer,
    private readonly request: RunRequest,
    start?: Start,
    concepts: readonly string[] = [],
  ) {
    const { prompt, negative_prompt, seed, steps, guidance_scale, schedule, schedule_strength } = request;
    const tokens = tokenizer.encode(prompt);
    this.#promptWords = findWords(prompt, tokens);
    this.#outside = new OutsideWords(prompt, concepts, tokenizer);
    this.words = [...this.#promptWords, ...this.#outside.words];
    this.#rivals = findRivals(this.words);
    this.#levels = noiseLevels(schedule, steps, schedule_strength, settings.sigmas);
    this.planned = this.#levels.length;
    this.#index = start?.index ?? 0;
    this.#latents = start?.latents ?? randomNormal(seed, LATENT_SIZE);
    this.#isGuided = guidance_scale > 1;
    const ids = tokens.map((token) => token.id);
    // The unconditional branch comes first, as in the pipeline.
    this.#ids = this.#isGuided ? [tokenizer.encode(negative_prompt).map((token) => token.id), ids] : [ids];
    this.#mask = new Float32Array(this.#ids.length * TOKENS);
    this.#factors = new Float32Array(this.#ids.length * TOKENS).fill(1);
    this.#applyWeights();
  }

  /** The latents as they are: after the last step, the final ones. */
  get latents(): Array32 {
    return this.#latents;
  }

  get isDone(): boolean {
    return this.#index >= this.planned;
  }

  /** Performs the next step, and records it. */
  async step(): Promise<StepRecord> {
    const { maps: probabilities, outside, selfAttention, ...record } = await this.advance();
    const rows = this.#ids.length;
    const maps = this.settings.layers.map((layer: Layer, i) => {
      const words = wordMapsOf(probabilities[i] as Array32, rows - 1, layer, this.#promptWords);
      const others = outside[i];
      return others ? appendWords(words, others, layer) : words;
    });
    const attention = selfAttention.slice((rows - 1) * CELLS ** 2); // of the row that is the prompt's
    const means = meanMaps(maps, this.settings.layers);
    const refined = refine(means, attention, 0, CELLS, this.#competition(maps, means));
    return { ...record, maps, refined, attention };
  }

  #competition(maps: readonly LayerMaps[], means: Float32Array): Map<number, Competition> {
    const { layers } = this.settings;
    const last = layers.findLastIndex((layer) => layer.default);
    const heads = headMaps(maps[last] as LayerMaps, layers[last] as Layer, null);
    return compete(this.#rivals, means, heads, CELLS);
  }

  /** Performs the next step; the attention is that of the network. */
  async advance(): Promise<Omit<StepRecord, "maps" | "refined" | "attention"> & Omit<Evaluation, "prediction">> {
    const latents = this.#latents;
    const level = this.#levels[this.#index] as NoiseLevel;
    const { output, guidance, ...attention } = await this.#evaluate(latents, level);
    const clean = predictClean(latents, output, level.sigma);
    const next = this.#levels[this.#index + 1]?.sigma ?? 0;
    this.#latents = solverStep(latents, clean, level.sigma, next);
    return { index: this.#index++, ...level, latents, clean, guidance, ...attention };
  }

  /** The guided output of the network for any latents at the next step, which is not performed. */
  async output(latents: Array32): Promise<Array32> {
    return (await this.#evaluate(latents, this.#levels[this.#index] as NoiseLevel)).output;
  }

  async #evaluate(latents: Array32, level: NoiseLevel) {
    const { networks, request } = this;
    this.#text ??= await networks.encodeText(this.#ids);
    const rows = this.#ids.length;
    const batch = new Float32Array(rows * LATENT_SIZE);
    for (let row = 0; row < rows; row++) batch.set(latents, row * LATENT_SIZE);
    const { prediction, ...attention } = await networks.denoise(
      batch,
      level.timestep,
      this.#text,
      this.#mask,
      this.#factors,
      await this.#outside.input(networks),
    );
    let output = prediction;
    let guidance: Array32 | null = null;
    if (this.#isGuided) {
      const free = output.subarray(0, LATENT_SIZE);
      const difference = output.subarray(LATENT_SIZE).map((value, i) => value - (free[i] as number));
      output = free.map((value, i) => value + request.guidance_scale * (difference[i] as number));
      guidance = rootMeanSquare(difference);
    }
    return { output, guidance, ...attention };
  }

  #applyWeights(): void {
    const dropped = new Set<number>();
    const offset = (this.#ids.length - 1) * TOKENS;
    for (const [text, factor] of Object.entries(presentWeights(this.request))) {
      const positions = this.#promptWords
        .filter((word) => word.kind === "word" && foldWord(word.text) === foldWord(text))
        .flatMap((word) => word.tokens);
      for (const position of positions) {
        const index = offset + position;
        if (factor !== null) this.#factors[index] = (this.#factors[index] as number) * factor;
        else {
          this.#mask[index] = Number.NEGATIVE_INFINITY;
          dropped.add(position);
        }
      }
    }
    const isEmpty = this.#promptWords.every(
      ({ kind, tokens }) => kind === "padding" || tokens.every((position) => dropped.has(position)),
    );
    if (dropped.size > 0 && isEmpty)
      throw new Error("drop: every word of the prompt is dropped, and nothing is left to attend to: keep one");
  }
}

/** Over the channels of each latent pixel. */
function rootMeanSquare(values: Array32): Float32Array {
  const channels = values.length / CELLS;
  return Float32Array.from({ length: CELLS }, (_, cell) => {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += (values[c * CELLS + cell] as number) ** 2;
    return Math.sqrt(sum / channels);
  });
}
