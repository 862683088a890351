// Asks the kernel for a word's maps layer by layer while somebody looks at them. One question at a time: the next is
// asked, for what is looked at then, when the answer has come. So nothing ever needs to be cancelled.

import {
  ATTENTION,
  bytes,
  type Lens,
  type LensExport,
  listOf,
  type Maps,
  type Message,
  maybe,
  number,
  object,
  pair,
  type Run,
  type Session,
  type StepMessage,
  signal,
  text,
  whole,
} from "../../app/coreExports";

/** A word's map in one layer: of one head, or the mean over its heads. `maps` holds this one map. */
export interface LayerMap {
  readonly layer: string;
  readonly head: number | null;
  /** 0 for a flat map, 1 for a single cell: 1 minus the normalised entropy. */
  readonly focus: number | null;
  readonly maps: Maps;
}

export interface LayerMaps {
  readonly run: string;
  readonly step: number;
  readonly word: number;
  readonly maps: readonly LayerMap[];
}

const ANSWER = object({
  run: text,
  step: whole,
  word: whole,
  maps: listOf(
    object({ layer: text, head: maybe(whole), grid: pair(whole), scale: maybe(pair(number)), focus: maybe(number) }),
  ),
});

/** Reads the kernel's answer; throws ProtocolError if its bytes do not fit what it says of them. */
export function readLayers({ content, buffers }: Message): LayerMaps {
  const { maps, ...rest } = ANSWER(content, "layers");
  const values = bytes(buffers[0], "maps");
  let end = 0;
  const cut = maps.map(({ grid: [height, width], scale, ...one }) => {
    const start = end;
    end += height * width;
    return { ...one, maps: { height, width, scales: [scale], data: values.subarray(start, end) } };
  });
  if (end !== values.length) throw new Error(`maps: ${values.length} bytes for ${end} cells`);
  return { ...rest, maps: cut };
}

/** After this long a question counts as lost. */
const LOST_MS = 4000;

export class Layers implements Lens {
  /** The map of the matrix that lies on the stage in place of the mean: its layer and head. */
  readonly drilled = signal<string | null>(null);
  /** The maps that are kept on top, whatever word and step they are of. */
  readonly pinned = signal<readonly string[]>([]);
  readonly answer = signal<LayerMaps | null>(null);
  /** Why there is no answer. */
  readonly problem = signal("");
  readonly #asked = signal<{ readonly key: string; readonly at: number } | null>(null);
  #known = "";
  #connected = true;

  constructor(private readonly session: Session) {}

  /** The word whose layers are looked at: the one chosen last. */
  get word(): number | undefined {
    return this.session.look.pinned.value.at(-1);
  }

  /** Asks for the maps that are looked at unless they are here, or on their way, or were refused. */
  want(): void {
    const { store, look, connected } = this.session;
    const run = store.shown.value;
    const step = run?.nearest(look.step.value);
    const { word } = this;
    const asked = this.#asked.value;
    if (connected.value !== this.#connected) {
      this.#connected = connected.value;
      this.#known = "";
    }
    if (!run || !step || word === undefined || !connected.value) return;
    const key = `${run.info.run} ${step.index} ${word}`;
    if (key === this.#known || (asked && performance.now() - asked.at < LOST_MS)) return;
    this.#asked.value = { key, at: performance.now() };
    void this.#ask(key, run.info.run, step.index, word);
  }

  async #ask(key: string, run: string, step: number, word: number): Promise<void> {
    let problem = "";
    try {
      this.answer.value = readLayers(await this.session.ask({ type: "layers", run, step, word }));
    } catch (error) {
      // A later request has taken the place of this one.
      if ((this.#asked.peek()?.key ?? key) !== key) return;
      problem = error instanceof Error ? error.message : String(error);
    }
    this.problem.value = problem;
    this.#known = key;
    if (this.#asked.peek()?.key === key) this.#asked.value = null;
  }

  pin(key: string): void {
    const pinned = this.pinned.value;
    this.pinned.value = pinned.includes(key) ? pinned.filter((other) => other !== key) : [...pinned, key];
  }

  /** Takes off the stage what another method has laid there. */
  lay(): void {
    if (this.session.traits.overlay.value !== ATTENTION) this.session.set({ overlay: ATTENTION });
  }

  /** The name of the drilled map. */
  get name(): string {
    const found = this.answer.value?.maps.find((one) => keyOf(one) === this.drilled.value);
    return found ? titleOf(found) : "";
  }

  exported(run: Run, words: readonly number[]): LensExport {
    const answer = this.answer.value;
    if (answer?.run !== run.info.run || words.length !== 1 || words[0] !== answer.word) return {};
    const drilled = answer.maps.find((map) => keyOf(map) === this.drilled.value);
    return drilled ? { layer: drilled.layer, head: drilled.head } : {};
  }

  /** The step with the drilled map in the place of its word's own. */
  apply(run: Run, step: StepMessage, words: readonly number[]): StepMessage {
    const answer = this.answer.value;
    const key = this.drilled.value;
    if (key === null || answer?.run !== run.info.run || words.length !== 1 || words[0] !== answer.word) return step;
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
