// Asks the kernel for a word's maps layer by layer while somebody looks at them. One question at a time: the next is
// asked, for what is looked at then, when the answer has come. So nothing ever needs to be cancelled.

import { type ReadonlySignal, signal } from "@preact/signals";
import type { LayerMap, LayersMessage, PageMessage, StepMessage } from "./protocol";
import type { Run } from "./store";

/** After this long a question counts as lost. */
const LOST_MS = 4000;

export class Layers {
  /** Whether the matrix is open. */
  readonly open = signal(false);
  /** The map of the matrix that lies on the stage in place of the mean: its layer and head. */
  readonly drilled = signal<string | null>(null);
  readonly #answer = signal<LayersMessage | null>(null);
  readonly #problem = signal("");
  readonly answer: ReadonlySignal<LayersMessage | null> = this.#answer;
  /** Why there is no answer. */
  readonly problem: ReadonlySignal<string> = this.#problem;
  readonly #asked = signal<{ readonly id: number; readonly key: string; readonly at: number } | null>(null);
  #id = 0;
  #known = "";

  /** Asks for the maps of `word` at `step` unless they are here, or on their way, or were refused. */
  want(run: Run, step: number, word: number, send: (message: PageMessage) => void): void {
    const key = `${run.info.run} ${step} ${word}`;
    const asked = this.#asked.value;
    if (key === this.#known || (asked && performance.now() - asked.at < LOST_MS)) return;
    this.#asked.value = { id: ++this.#id, key, at: performance.now() };
    send({ type: "layers", id: this.#id, run: run.info.run, step, word });
  }

  /** Takes the kernel's answer, or its refusal. */
  take(id: number | null, answer: LayersMessage | null, problem: string): void {
    const asked = this.#asked.peek();
    if (asked?.id !== id) return;
    this.#known = asked.key;
    this.#asked.value = null;
    if (answer) this.#answer.value = answer;
    this.#problem.value = problem;
  }

  /** A new connection owes no answers. */
  forget(): void {
    this.#known = "";
    this.#asked.value = null;
  }

  /** The name of the drilled map. */
  get title(): string {
    const found = this.#answer.value?.maps.find((one) => keyOf(one) === this.drilled.value);
    return found ? titleOf(found) : "";
  }

  /** The step with the drilled map in the place of its word's own. */
  drill(run: Run, step: StepMessage | undefined, words: readonly number[]): StepMessage | undefined {
    const answer = this.#answer.value;
    const key = this.open.value ? this.drilled.value : null;
    if (!step || key === null || answer?.run !== run.info.run || words.length !== 1 || words[0] !== answer.word)
      return step;
    const found = answer.maps.find((one) => keyOf(one) === key);
    if (!found || answer.step !== step.index) return step;
    const { height, width, scales, data } = found.maps;
    const all = new Uint8Array((answer.word + 1) * height * width);
    all.set(data, answer.word * height * width);
    return { ...step, maps: { height, width, data: all, scales: step.maps.scales.map(() => scales[0] ?? null) } };
  }
}

/** What a map of the matrix is called. */
export function titleOf({ layer, head }: LayerMap): string {
  return head === null ? shortName(layer) : `${shortName(layer)} h${head + 1}`;
}

export function keyOf({ layer, head }: LayerMap): string {
  return `${layer} ${head}`;
}

/** A layer's place in the network, without the words that all layers share. */
export function shortName(layer: string): string {
  return layer
    .replace(/_blocks?|attentions|\.attn\w*|\.processor/g, "")
    .replace(/[._]+/g, " ")
    .replace(/(\d) transformer/, "$1")
    .trim();
}
