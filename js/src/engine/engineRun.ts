// One run of the engine: its records, and its messages as diffvis_widget/wire/messages.py builds them.

import type { Message, Note, Range } from "../core/protocol";
import { presence } from "./calibration";
import { wordsByShare } from "./exclusiveWords";
import { focus, headMaps, type Layer, meanMaps, quantise, round } from "./heatMaps";
import type { JobResult } from "./jobs";
import { emergence, type ScoreRow } from "./meter";
import { type Array32, IMAGE_SIDE } from "./networks";
import { encodeGrey, encodePng } from "./png";
import type { PromptWord } from "./promptWords";
import { presentWeights, type RunRequest } from "./request";
import type { StepRecord } from "./sampler";
import type { EngineSettings } from "./settings";

const GRID = 12;
const VIEWS = ["prediction", "latents", "guidance"];
const DIGITS = 5;

export type EndState = "done" | "stopped" | "failed";

/** An image that the decoder makes. */
export type DecodedView = "prediction" | "latents";

/** A step with what is shown of it. */
export interface ShownStep {
  readonly record: StepRecord;
  readonly message: Message;
  /** Its exact image; null until it is decoded. */
  image: Uint8Array | null;
  /** The unit vector of its exact image; null until it is needed. */
  features: Array32 | null;
}

export class EngineRun {
  readonly steps: ShownStep[] = [];
  readonly scores: (ScoreRow | undefined)[] = [];
  scoredConcepts: readonly string[] = [];
  notes: readonly Note[];
  /** Its maps of explain methods: what they are of, and their bytes. */
  saliency: readonly { readonly entry: { readonly step: number }; readonly data: Uint8Array }[] = [];
  /** Its decision curves. */
  decisions: readonly JobResult[] = [];
  end: Message | null = null;
  /** The pixels of the final image; null for a run that did not come that far. */
  image: Uint8Array | null = null;
  /** Steps whose image, or noisy image, is still a preview. */
  readonly inexact = { prediction: new Set<number>(), latents: new Set<number>() };
  /** The exact images that replaced previews, by step. */
  readonly #frames = { prediction: new Map<number, Uint8Array>(), latents: new Map<number, Uint8Array>() };

  constructor(
    readonly id: string,
    readonly request: RunRequest,
    readonly words: readonly PromptWord[],
    readonly planned: number,
    private readonly settings: EngineSettings,
    /** Whether it has few steps, and the run with all of them follows. */
    readonly isDraft = false,
  ) {
    this.notes = settings.notes.flatMap((note) => {
      const indices = note.words.map((text) =>
        words.findIndex((word) => word.kind === "word" && word.text.toLowerCase() === text.toLowerCase()),
      );
      // A note on a word that this prompt lacks, or on a step that this run lacks, is a note on the whole run.
      const isOnStep = note.step !== null && note.step < planned;
      return [{ ...note, step: isOnStep ? note.step : null, words: indices.filter((index) => index >= 0) }];
    });
  }

  get state(): EndState | "running" {
    return this.end ? ((this.end.content as { readonly state: EndState }).state ?? "done") : "running";
  }

  runMessage(): Message {
    const { request, settings, words } = this;
    const unknown = new Set(
      (request.prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).filter(
        (word) => !settings.vocabulary.includes(word),
      ),
    );
    const { guidance_scale } = request;
    return {
      content: {
        type: "run",
        run: this.id,
        ...request,
        ...(this.isDraft ? { draft: true } : {}),
        shares: wordsByShare(words),
        negative_prompt: request.negative_prompt || null,
        steps: this.planned,
        weights: presentWeights(request),
        scheduler: settings.scheduler,
        pipeline: settings.pipeline,
        noise_levels: "known",
        words: words.map((word) => ({
          ...word,
          encoder: "",
          unknown: word.kind === "word" && unknown.has(word.text.toLowerCase()),
        })),
        grid: [GRID, GRID],
        image: [IMAGE_SIDE, IMAGE_SIDE],
        layers: settings.layers,
        views: guidance_scale > 1 ? VIEWS : VIEWS.slice(0, 2),
        meter: settings.meter,
        notes: this.notes,
      },
      buffers: [],
    };
  }

  /** Adds a step; `exact`: whether `image` is decoded, not a preview. */
  addStep(record: StepRecord, image: Uint8Array, latents: Uint8Array, exact: boolean, elapsed: number): Message {
    const { guidance, index } = record;
    const shape = [this.words.length, GRID, GRID];
    const maps = quantise(meanMaps(record.maps, this.settings.layers), GRID * GRID);
    const refined = quantise(record.refined, GRID * GRID);
    const range: Range | null = guidance ? [Math.min(...guidance), Math.max(...guidance)] : null;
    const buffers = [png(image), png(latents)];
    if (guidance && range) buffers.push(encodeGrey(guidance, GRID, ...range));
    const content = {
      type: "step",
      run: this.id,
      index,
      timestep: record.timestep,
      sigma: record.sigma,
      second_order: false,
      maps: { shape, scales: maps.scales },
      refined: { shape, scales: refined.scales },
      exact,
      previews: exact ? ["latents"] : ["prediction", "latents"],
      views: guidance ? VIEWS : VIEWS.slice(0, 2),
      guidance_range: range,
      elapsed: round(elapsed, 3),
    };
    const message = { content, buffers: [...buffers, maps.data, refined.data] };
    this.steps[index] = { record, message, image: null, features: null };
    if (!exact) this.inexact.prediction.add(index);
    this.inexact.latents.add(index);
    return message;
  }

  /** Replaces a preview of a step by the exact image. */
  addFrame(index: number, view: DecodedView, image: Uint8Array): Message {
    const data = png(image);
    this.inexact[view].delete(index);
    this.#frames[view].set(index, data);
    return { content: { type: "frame", run: this.id, index, exact: true, view }, buffers: [data] };
  }

  /** The scores of the steps from `start` to `stop`. */
  scoresMessage(start: number, stop: number): Message {
    const rows = this.scores.slice(start, stop);
    const present = (row: ScoreRow, index: number) => {
      const { sigma } = (this.steps[index] as ShownStep).record;
      return presence(this.settings.calibration, this.scoredConcepts, row.cosine, row.nullBand[1], sigma);
    };
    const isComplete = this.scores.length === this.planned && !this.scores.includes(undefined);
    const all = this.scores as ScoreRow[];
    const digits = (values: readonly number[] | null | undefined) => values?.map((value) => round(value, DIGITS)) ?? [];
    return {
      content: {
        type: "scores",
        run: this.id,
        start,
        concepts: this.scoredConcepts,
        cosine: rows.map((row) => digits(row?.cosine)),
        null_band: rows.map((row) => (row ? digits(row.nullBand) : [null, null])),
        share: this.scoredConcepts.length > 1 ? rows.map((row) => digits(row?.share)) : null,
        emergence: isComplete
          ? emergence(
              all.map((row) => row.cosine),
              all.map((row) => row.nullBand),
              all.map(present),
            )
          : this.scoredConcepts.map(() => null),
        present: rows.map((row, i) => (row ? present(row, start + i) : this.scoredConcepts.map(() => null))),
        meter: this.settings.meter,
      },
      buffers: [],
    };
  }

  endMessage(state: EndState, seconds: number, error: string | null, image: Uint8Array | null): Message {
    const content = { type: "end", run: this.id, state, steps: this.steps.length, error, seconds: round(seconds, 3) };
    this.image = image;
    this.end = { content, buffers: image ? [png(image)] : [] };
    return this.end;
  }

  /** A step with its exact images, as far as there are any by now. */
  stepMessage(index: number): Message {
    const { content, buffers } = (this.steps[index] as ShownStep).message;
    const [prediction, latents, ...others] = buffers;
    const images = [this.#frames.prediction.get(index) ?? prediction, this.#frames.latents.get(index) ?? latents];
    const previews = (["prediction", "latents"] as const).filter((view) => this.inexact[view].has(index));
    const exact = !previews.includes("prediction");
    return { content: { ...(content as object), exact, previews }, buffers: [...images, ...others] as Uint8Array[] };
  }

  /** All messages of the run as it stands. */
  messages(): Message[] {
    const end = this.end ? [this.end] : [];
    const steps = this.steps.map((_, index) => this.stepMessage(index));
    return [this.runMessage(), ...steps, ...this.scoreMessages(), ...end];
  }

  /** The scores so far: one message for each stretch of scored steps. */
  scoreMessages(): Message[] {
    const messages: Message[] = [];
    for (let start = 0; start < this.scores.length; start++) {
      let stop = start;
      while (this.scores[stop]) stop++;
      if (stop > start) messages.push(this.scoresMessage(start, stop));
      start = stop;
    }
    return messages;
  }

  /** A step; throws an error that says which there are. */
  at(step: unknown): ShownStep {
    const shown = typeof step === "number" ? this.steps[step] : undefined;
    if (!shown) throw new Error(`step ${step} is out of range: this run has steps 0 to ${this.steps.length - 1}`);
    return shown;
  }

  /** The heat maps of all words at a step: (words, height, width). */
  heatMaps(index: number): Float32Array {
    return meanMaps((this.steps[index] as ShownStep).record.maps, this.settings.layers);
  }

  /** The reply with a word's maps head by head. */
  layersMessage(id: number, step: number, word: number): Message {
    const shown = this.at(step);
    if (!this.words[word])
      throw new Error(`word ${word} is out of range: this run has words 0 to ${this.words.length - 1}`);
    const parts: Uint8Array[] = [];
    const maps = this.settings.layers.flatMap((layer: Layer, i) =>
      Array.from({ length: layer.heads }, (_, head) => {
        const size = layer.grid[0] * layer.grid[1];
        const all = headMaps(shown.record.maps[i] as Float32Array, layer, head);
        const map = all.subarray(word * size, (word + 1) * size);
        const { data, scales } = quantise(map, size);
        parts.push(data);
        return { layer: layer.name, head, grid: layer.grid, scale: scales[0] ?? null, focus: focus(map) };
      }),
    );
    const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((offset, part) => {
      data.set(part, offset);
      return offset + part.length;
    }, 0);
    return { content: { type: "layers", run: this.id, id, step, word, maps }, buffers: [data] };
  }
}

export function png(pixels: Uint8Array): Uint8Array {
  return encodePng(pixels, IMAGE_SIDE, IMAGE_SIDE);
}
