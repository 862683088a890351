// A host for tests: traits in memory, messages delivered by the test. It has the contract of the notebook's host.

import type { Host, TraitName, Traits } from "../src/core/host";
import type { PageMessage } from "../src/core/protocol";

export class TestHost implements Host {
  readonly controller = new AbortController();
  readonly signal = this.controller.signal;
  isOffline = false;
  readonly canAnswer = () => !this.isOffline;
  readonly sent: PageMessage[] = [];
  readonly written: Partial<Traits>[] = [];
  readonly #changes: [TraitName, () => void][] = [];
  readonly #takers: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  readonly #connections: ((connected: boolean) => void)[] = [];

  constructor(readonly traits: Partial<Traits> = {}) {}

  get<K extends TraitName>(name: K): Traits[K] | undefined {
    return this.traits[name] as Traits[K] | undefined;
  }

  set(values: Partial<Traits>): void {
    this.written.push(values);
    this.fromKernel(values);
  }

  fromKernel(values: Partial<Traits>): void {
    Object.assign(this.traits, values);
    for (const [name, tell] of this.#changes) if (name in values) tell();
  }

  send(message: PageMessage): void {
    this.sent.push(message);
  }

  onChange(name: TraitName, callback: () => void): void {
    this.#changes.push([name, callback]);
  }

  onMessage(callback: (content: unknown, buffers: readonly ArrayBufferView[]) => void): void {
    this.#takers.push(callback);
  }

  onConnection(callback: (connected: boolean) => void): void {
    this.#connections.push(callback);
    callback(true);
  }

  connect(connected: boolean): void {
    for (const tell of this.#connections) tell(connected);
  }

  deliver(content: object, buffers: readonly ArrayBufferView[] = []): void {
    for (const take of this.#takers) take(content, buffers);
  }

  /** The messages of one type that the page sent. */
  of<T extends PageMessage["type"]>(type: T): Extract<PageMessage, { type: T }>[] {
    return this.sent.filter((message): message is Extract<PageMessage, { type: T }> => message.type === type);
  }
}

export const WORDS = [
  { text: "<|startoftext|>", tokens: [0], token_texts: ["<|startoftext|>"], kind: "special", unknown: false },
  { text: "a", tokens: [1], token_texts: ["a"], kind: "word", unknown: false },
  { text: "red", tokens: [2], token_texts: ["red"], kind: "word", unknown: false },
  { text: "weathervane", tokens: [3, 4], token_texts: ["weather", "vane</w>"], kind: "word", unknown: true },
  { text: "lost", tokens: [], token_texts: [], kind: "truncated", unknown: false },
] as const;

export const PROMPT = "a red weathervane lost";

export function runContent(run = "r1", seq = 0, over: object = {}): object {
  return {
    type: "run",
    run,
    seq,
    prompt: PROMPT,
    negative_prompt: null,
    seed: 7,
    steps: 4,
    guidance_scale: 7.5,
    scheduler: "S",
    schedule: "uniform",
    schedule_strength: 60,
    pipeline: "P",
    words: WORDS,
    grid: [2, 2],
    image: [8, 8],
    layers: [],
    views: ["prediction", "latents"],
    meter: "scenes CLIP",
    ...over,
  };
}

export function stepContent(index: number, seq = index + 1, run = "r1", over: object = {}): object {
  return {
    type: "step",
    run,
    seq,
    index,
    timestep: 999 - index * 250,
    sigma: 4 - index,
    second_order: false,
    maps: { shape: [5, 2, 2], scales: [[0, 1], [0, 0.1], [0, 0.2], [0.1, 0.4], null] },
    exact: false,
    views: ["prediction"],
    guidance_range: null,
    elapsed: 0.5 * (index + 1),
    ...over,
  };
}

export function stepBuffers(mark = 1): Uint8Array[] {
  return [new Uint8Array([0x52, mark]), Uint8Array.from({ length: 20 }, (_, i) => i * 12)];
}

export function scoresContent(start: number, cosine: (number | null)[][], over: object = {}): object {
  return {
    type: "scores",
    run: "r1",
    seq: 90,
    start,
    concepts: ["red", "boat"],
    cosine,
    null_band: cosine.map(() => [0.1, 0.2]),
    share: cosine.map(() => [0.7, 0.3]),
    emergence: [1, null],
    meter: "scenes CLIP",
    ...over,
  };
}
