// A word's heat maps layer by layer, requested from the kernel while the drawer is open. There is one request at a time:
// the next one, for what is shown by then, follows the reply, so that nothing needs to be canceled.

import {
  ATTENTION,
  computed,
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
import { replyMaps } from "../replyMaps";
import { layerNames } from "./layerNames";

/** A word's map in one layer: of one head, or the mean over its heads. `maps` holds this map alone. */
export interface LayerMap {
  readonly layer: string;
  readonly head: number | null;
  /** 1 minus the normalised entropy: 0 for a flat map, 1 for a single cell. */
  readonly focus: number | null;
  readonly maps: Maps;
}

export interface LayerMaps {
  readonly run: string;
  readonly step: number;
  readonly word: number;
  readonly maps: readonly LayerMap[];
}

const REPLY = object({
  run: text,
  step: whole,
  word: whole,
  maps: listOf(
    object({ layer: text, head: maybe(whole), grid: pair(whole), scale: maybe(pair(number)), focus: maybe(number) }),
  ),
});

/** Reads the kernel's reply; throws an Error if its bytes do not match its header. */
export function readLayers({ content, buffers }: Message): LayerMaps {
  const { maps, ...rest } = REPLY(content, "layers");
  const planes = replyMaps(buffers[0], maps);
  return {
    ...rest,
    maps: maps.map(({ layer, head, focus }, index) => ({ layer, head, focus, maps: planes[index] as Maps })),
  };
}

/** A request without a reply for this long counts as lost. */
const LOST_MS = 4000;

export class Layers implements Lens {
  /** The key of the map that the stage shows in place of the mean over the layers. */
  readonly selected = signal<string | null>(null);
  /** The keys of the maps pinned above the grid, for every word and step. */
  readonly pinned = signal<readonly string[]>([]);
  readonly received = signal<LayerMaps | null>(null);
  readonly problem = signal("");
  readonly #names = computed(() => layerNames([...new Set(this.received.value?.maps.map(({ layer }) => layer))]));
  readonly #request = signal<{ readonly key: string; readonly time: number } | null>(null);
  /** What was requested last and has been answered or refused. */
  #settledKey = "";
  #wasConnected = true;

  constructor(private readonly session: Session) {}

  /** The word whose layers are shown: the one chosen last. */
  get word(): number | undefined {
    return this.session.viewState.pinned.value.at(-1);
  }

  /** Requests the maps of the current word and step unless they are here or on their way; call it in a reaction. */
  request(): void {
    const { store, viewState, connected } = this.session;
    const run = store.shown.value;
    const step = run?.nearest(viewState.step.value);
    const { word } = this;
    const pending = this.#request.value;
    if (connected.value !== this.#wasConnected) {
      this.#wasConnected = connected.value;
      this.#settledKey = "";
    }
    if (!run || !step || word === undefined || !connected.value) return;
    const key = `${run.info.run} ${step.index} ${word}`;
    if (key === this.#settledKey || (pending && performance.now() - pending.time < LOST_MS)) return;
    this.#request.value = { key, time: performance.now() };
    void this.#ask(key, run.info.run, step.index, word);
  }

  async #ask(key: string, run: string, step: number, word: number): Promise<void> {
    let problem = "";
    try {
      this.received.value = readLayers(await this.session.ask({ type: "layers", run, step, word }));
    } catch (error) {
      // The failure of a request does not matter once a later one has been sent.
      if ((this.#request.peek()?.key ?? key) !== key) return;
      problem = error instanceof Error ? error.message : String(error);
    }
    this.problem.value = problem;
    this.#settledKey = key;
    if (this.#request.peek()?.key === key) this.#request.value = null;
  }

  /** The name of the layer of a received map. */
  nameOf({ layer }: LayerMap): string {
    return this.#names.value.get(layer) ?? layer;
  }

  /** The name of a received map: its layer, and its head if it is of one. */
  titleOf(map: LayerMap): string {
    return map.head === null ? this.nameOf(map) : `${this.nameOf(map)}, head ${map.head + 1}`;
  }

  pin(key: string): void {
    const pinned = this.pinned.value;
    this.pinned.value = pinned.includes(key) ? pinned.filter((other) => other !== key) : [...pinned, key];
  }

  /** Shows a map on the stage, or the mean over the layers if the stage shows that map. */
  toggle(key: string): void {
    this.selected.value = this.selected.value === key ? null : key;
    // An explain method's map would cover it.
    if (this.session.traits.overlay.value !== ATTENTION) this.session.set({ overlay: ATTENTION });
  }

  // -- as a lens --

  get name(): string {
    const map = this.received.value?.maps.find((candidate) => keyOf(candidate) === this.selected.value);
    return map ? this.titleOf(map) : "";
  }

  exported(run: Run, words: readonly number[]): LensExport {
    const map = this.#mapFor(run, words);
    return map ? { layer: map.layer, head: map.head } : {};
  }

  apply(run: Run, step: StepMessage, words: readonly number[]): StepMessage {
    const map = this.#mapFor(run, words);
    const { received } = this;
    if (!map || received.value?.step !== step.index) return step;
    const { height, width, scales, data } = map.maps;
    const word = received.value.word;
    const all = new Uint8Array((word + 1) * height * width);
    all.set(data, word * height * width);
    return { ...step, maps: { height, width, data: all, scales: step.maps.scales.map(() => scales[0] ?? null) } };
  }

  /** The selected map, if it is of the only word on the stage. */
  #mapFor(run: Run, words: readonly number[]): LayerMap | undefined {
    const received = this.received.value;
    if (received?.run !== run.info.run || words.length !== 1 || words[0] !== received.word) return undefined;
    return received.maps.find((map) => keyOf(map) === this.selected.value);
  }
}

export function keyOf({ layer, head }: LayerMap): string {
  return `${layer} ${head}`;
}
