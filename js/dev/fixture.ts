// A development fixture: a synthetic run in the messages of the protocol, with images drawn on a canvas.

import type { Message, WordKind } from "../src/core/protocol";

export interface FixtureWord {
  readonly text: string;
  readonly token_texts?: readonly string[];
  readonly kind?: WordKind;
  readonly unknown?: boolean;
  readonly encoder?: string;
  /** Whether it has no heat map. */
  readonly blind?: boolean;
  /** The peak of its heat map: centre and spread, 0..1. */
  readonly spot: readonly [x: number, y: number, spread: number, peak: number];
}

export interface Fixture {
  readonly prompt: string;
  readonly words: readonly FixtureWord[];
  readonly concepts: readonly string[];
  readonly steps: number;
  readonly size: number;
  readonly grid: number;
  /** The colour of the square. */
  readonly square?: string;
}

const CIRCLE = [0.5, 0.3] as const;
const SQUARE = [0.5, 0.72] as const;

export const SCENE: Fixture = {
  prompt: "a red circle above a blue square",
  words: [
    { text: "a", spot: [0.4, 0.35, 0.5, 0.02] },
    { text: "red", spot: [...CIRCLE, 0.16, 0.11] },
    { text: "circle", spot: [...CIRCLE, 0.14, 0.21] },
    { text: "above", spot: [0.5, 0.52, 0.3, 0.05] },
    { text: "a", spot: [0.6, 0.6, 0.5, 0.018] },
    { text: "blue", spot: [...SQUARE, 0.17, 0.1] },
    { text: "square", spot: [...SQUARE, 0.15, 0.17] },
  ],
  concepts: ["circle", "square", "red", "blue"],
  steps: 30,
  size: 96,
  grid: 12,
};

/** The same scene with another word in the prompt. */
export const EDITED: Fixture = {
  ...SCENE,
  prompt: "a red circle above a small green square",
  words: [
    ...SCENE.words.slice(0, 5),
    { text: "small", spot: [...SQUARE, 0.2, 0.05] },
    { text: "green", spot: [...SQUARE, 0.15, 0.12] },
    ...SCENE.words.slice(6),
  ],
  square: "#3a9b57",
};

export const LONG: Fixture = {
  ...SCENE,
  prompt:
    "a tiny red spaceship above a blue teapot with an extraordinarily ornamented <b>handle</b>, at night on the sea",
  words: [
    { text: "a", spot: [0.4, 0.35, 0.5, 0.02] },
    { text: "tiny", spot: [0.5, 0.3, 0.2, 0.06] },
    { text: "red", spot: [...CIRCLE, 0.16, 0.11] },
    { text: "spaceship", token_texts: ["space", "ship</w>"], unknown: true, spot: [...CIRCLE, 0.14, 0.21] },
    { text: "above", spot: [0.5, 0.52, 0.3, 0.05] },
    { text: "a", spot: [0.6, 0.6, 0.5, 0.018] },
    { text: "blue", spot: [...SQUARE, 0.17, 0.1] },
    { text: "teapot", token_texts: ["tea", "pot</w>"], unknown: true, spot: [...SQUARE, 0.15, 0.17] },
    { text: "with", spot: [0.5, 0.7, 0.4, 0.02] },
    { text: "an", spot: [0.5, 0.7, 0.4, 0.02] },
    { text: "extraordinarily", token_texts: ["extra", "ordin", "arily</w>"], spot: [0.2, 0.7, 0.3, 0.03] },
    { text: "ornamented", token_texts: ["or", "nam", "ented</w>"], spot: [0.8, 0.7, 0.2, 0.05] },
    { text: "<", spot: [0.1, 0.1, 0.4, 0.01] },
    { text: "b", spot: [0.1, 0.1, 0.4, 0.01] },
    { text: ">", spot: [0.1, 0.1, 0.4, 0.01] },
    { text: "handle", spot: [0.8, 0.7, 0.1, 0.08] },
    { text: ",", spot: [0.5, 0.5, 0.5, 0.01] },
    { text: "at", kind: "truncated", spot: [0, 0, 0, 0] },
    { text: "night", kind: "truncated", spot: [0, 0, 0, 0] },
    { text: "on", kind: "truncated", spot: [0, 0, 0, 0] },
    { text: "the", kind: "truncated", spot: [0, 0, 0, 0] },
    { text: "sea", kind: "truncated", spot: [0, 0, 0, 0] },
  ],
};

/** The size for benchmarks: 512 px, maps of 64 x 64. */
export const LARGE: Fixture = { ...SCENE, size: 512, grid: 64 };

/** A model whose attention cannot be recorded. */
export const UNMAPPED: Fixture = { ...SCENE, grid: 0 };

/** A model with two text encoders; the padding has no map. */
export const ENCODERS: Fixture = {
  ...SCENE,
  words: ["CLIP", "T5"].flatMap((encoder) => [
    ...SCENE.words.map((word) => ({ ...word, encoder })),
    { text: "", kind: "padding", encoder, blind: true, spot: [0, 0, 0, 0] } as const,
  ]),
};

/** Few steps. */
export const SHORT: Fixture = { ...SCENE, steps: 12 };

const BLOCKS = ["down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.1", "up_blocks.2"];
const LAYERS = BLOCKS.map((block) => `${block}.attentions.0.transformer_blocks.0.attn2`);

/** The maps of a word in every layer, 4 heads each, as the kernel sends them. */
export function layersOf(fixture: Fixture, question: { run: string; step: number; word: number }): Message {
  const word = fixture.words[question.word - 1] ?? { text: "", spot: [0.5, 0.5, 0.9, 0.6] as const };
  const grids = [fixture.grid, fixture.grid / 2, fixture.grid / 4, fixture.grid / 2, fixture.grid];
  const parts: Uint8Array[] = [];
  const maps = LAYERS.flatMap((layer, i) =>
    [0, 1, 2, 3].map((head) => {
      const grid = grids[i] ?? 1;
      const [x, y, spread, peak] = word.spot;
      const own = { ...word, text: word.text + head, spot: [x, y, spread * (0.6 + 0.5 * head), peak] as const };
      const { values, scale } = heat(own, question.step, { ...fixture, grid });
      parts.push(Uint8Array.from(values, (v) => Math.round(((v - scale[0]) / (scale[1] - scale[0])) * 255)));
      return { layer, head, grid: [grid, grid], scale, focus: 0.5 - 0.1 * head - 0.05 * i };
    }),
  );
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    data.set(part, offset);
    offset += part.length;
  }
  return { content: { type: "layers", ...question, maps }, buffers: [data] };
}

function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const clean = (size: number, blur: number, square = "#3d6fd1"): OffscreenCanvas => {
  const canvas = new OffscreenCanvas(size, size);
  const c = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
  c.fillStyle = "#f2ece1";
  c.fillRect(0, 0, size, size);
  c.filter = blur > 0.2 ? `blur(${blur}px)` : "none";
  c.fillStyle = square;
  c.beginPath();
  c.roundRect(size * 0.34, size * 0.56, size * 0.32, size * 0.32, size * 0.02);
  c.fill();
  c.fillStyle = "#d8432f";
  c.beginPath();
  c.arc(size * CIRCLE[0], size * CIRCLE[1], size * 0.17, 0, 7);
  c.fill();
  return canvas;
};

async function frame(fixture: Fixture, step: number, noisy: boolean): Promise<Uint8Array> {
  const { size, steps } = fixture;
  const t = (step + 1) / steps;
  const canvas = clean(size, noisy ? 0 : (1 - t) ** 1.6 * size * 0.22, fixture.square);
  const c = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
  const next = random(7);
  const strength = noisy ? Math.sqrt(1 - t * t) : 0.12 * (1 - t) ** 2;
  const keep = noisy ? t : 1;
  const cell = noisy ? 8 : 2;
  const data = c.getImageData(0, 0, size, size);
  const noise = Float32Array.from({ length: (size / cell) ** 2 * 3 }, () => (next() + next() + next() - 1.5) * 210);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const i = (y * size + x) * 4;
      const n = (Math.floor(y / cell) * (size / cell) + Math.floor(x / cell)) * 3;
      for (let k = 0; k < 3; k++) {
        const base = (data.data[i + k] ?? 0) - 128;
        data.data[i + k] = 128 + base * keep * (0.55 + 0.45 * t) + strength * (noise[n + k] ?? 0);
      }
    }
  }
  c.putImageData(data, 0, 0);
  return encode(canvas);
}

async function encode(canvas: OffscreenCanvas): Promise<Uint8Array> {
  const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.9 });
  return new Uint8Array(await blob.arrayBuffer());
}

async function guidance(fixture: Fixture, step: number): Promise<Uint8Array> {
  const n = fixture.grid || 12;
  const canvas = new OffscreenCanvas(n, n);
  const c = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
  const data = c.createImageData(n, n);
  const next = random(step + 40);
  for (let i = 0; i < n * n; i++) {
    const [x, y] = [((i % n) + 0.5) / n, (Math.floor(i / n) + 0.5) / n];
    const near = (spot: readonly [number, number]) => Math.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 0.03);
    const grey = 255 * Math.min(1, 0.12 + 0.7 * Math.max(near(CIRCLE), near(SQUARE)) + 0.15 * next());
    data.data.set([grey, grey, grey, 255], i * 4);
  }
  c.putImageData(data, 0, 0);
  return encode(canvas);
}

function heat(
  word: FixtureWord,
  step: number,
  fixture: Fixture,
): { readonly values: number[]; readonly scale: [number, number] } {
  const t = (step + 1) / fixture.steps;
  const [cx, cy, spread, peak] = word.spot;
  const s = spread * (1 + 1.6 * (1 - t) ** 2);
  const next = random(word.text.length * 97 + step * 3);
  const values: number[] = [];
  for (let y = 0; y < fixture.grid; y++) {
    for (let x = 0; x < fixture.grid; x++) {
      const d = ((x + 0.5) / fixture.grid - cx) ** 2 + ((y + 0.5) / fixture.grid - cy) ** 2;
      values.push(peak * (0.08 + (0.35 + 0.65 * t) * Math.exp(-d / (2 * s * s)) + 0.06 * next()));
    }
  }
  return { values, scale: [Math.min(...values), Math.max(...values)] };
}

/** The messages of the run, without sequence numbers: run, then a step and its scores at a time, then the end. */
export async function record(fixture: Fixture, run: string, seed = 7): Promise<Message[]> {
  const messages: Message[] = [];
  const specials = (text: string, kind: WordKind): FixtureWord => ({ text, kind, spot: [0.5, 0.5, 0.9, 0.6] });
  const words = [specials("<|startoftext|>", "special"), ...fixture.words, specials("<|endoftext|>", "special")];
  let token = 0;
  messages.push({
    content: {
      type: "run",
      run,
      prompt: fixture.prompt,
      negative_prompt: null,
      seed,
      steps: fixture.steps,
      guidance_scale: 7.5,
      scheduler: "DPMSolverMultistepScheduler",
      schedule: "uniform",
      schedule_strength: 60,
      pipeline: "StableDiffusionPipeline",
      words: words.map(({ text, token_texts, kind = "word", unknown = false, encoder = "" }) => ({
        text,
        tokens: kind === "truncated" ? [] : (token_texts ?? [text]).map(() => token++),
        token_texts: token_texts ?? [text],
        kind,
        unknown,
        encoder,
      })),
      grid: [fixture.grid, fixture.grid],
      image: [fixture.size, fixture.size],
      layers: fixture.grid > 0 ? LAYERS : [],
      views: ["prediction", "latents", "guidance"],
      meter: "scenes CLIP",
    },
    buffers: [],
  });
  for (let step = 0; step < fixture.steps; step++) {
    const maps = words.map((word) =>
      word.kind === "truncated" || word.blind || !fixture.grid ? null : heat(word, step, fixture),
    );
    const data = new Uint8Array(words.length * fixture.grid ** 2);
    maps.forEach((map, i) => {
      if (!map) return;
      const [lo, hi] = map.scale;
      data.set(
        map.values.map((v) => Math.round(((v - lo) / (hi - lo)) * 255)),
        i * fixture.grid ** 2,
      );
    });
    messages.push({
      content: {
        type: "step",
        run,
        index: step,
        timestep: Math.round(999 * (1 - step / fixture.steps)),
        sigma: 14.6 * (1 - step / fixture.steps) ** 3 + 0.03,
        second_order: false,
        maps: { shape: [words.length, fixture.grid, fixture.grid], scales: maps.map((map) => map?.scale ?? null) },
        exact: true,
        views: ["prediction", "latents", "guidance"],
        guidance_range: [0.02, 0.9 - 0.02 * step],
        elapsed: 0.08 * (step + 1),
      },
      buffers: [
        await frame(fixture, step, false),
        await frame(fixture, step, true),
        await guidance(fixture, step),
        data,
      ],
    });
    const cosine = fixture.concepts.map((_, k) => {
      const rise = 1 / (1 + Math.exp(-(step - 5 - k * 3.2) / (1.2 + k * 0.3)));
      return 0.14 + 0.02 * Math.sin(step * 1.7 + k) * (1 - rise) + (0.2 - 0.025 * k) * rise;
    });
    const sum = cosine.reduce((total, c) => total + Math.exp(c * 40), 0);
    messages.push({
      content: {
        type: "scores",
        run,
        start: step,
        concepts: fixture.concepts,
        cosine: [cosine],
        null_band: [[0.09 + 0.01 * Math.sin(step), 0.19 + 0.012 * Math.sin(step * 0.6)]],
        share: fixture.concepts.length > 1 ? [cosine.map((c) => Math.exp(c * 40) / sum)] : null,
        emergence: fixture.concepts.map((_, k) => (step > 7 + k * 3 ? Math.round(5 + k * 3.2) : null)),
        meter: "scenes CLIP",
      },
      buffers: [],
    });
  }
  messages.push({
    content: { type: "end", run, state: "done", steps: fixture.steps, error: null, seconds: 1.38 },
    buffers: [],
  });
  return messages;
}
