// The heat maps of the explain methods: those that the run has, new ones that the kernel computes, and the one on the
// stage.

import {
  ATTENTION,
  type Context,
  effect,
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
  recordOf,
  type Session,
  type StepMessage,
  signal,
  text,
  whole,
} from "../../app/coreExports";
import { Job } from "../job";
import { replyMaps } from "../replyMaps";

const METHOD = object({ name: text, label: text, caption: text, finding: text });

export const NEEDS_NOTEBOOK = "This works in the notebook, not in this page.";

/** A row of the kernel's registry of explain methods. `caption`: what its map shows, and what it does not show.
 *  `finding`: how far the map can be trusted, as measured; empty where nothing was measured. */
export type Method = ReturnType<typeof METHOD>;

/** A method's name for readers; a file can hold maps of methods that the kernel does not know. */
export function labelOf(method: string, methods: readonly Method[]): string {
  return methods.find(({ name }) => name === method)?.label ?? method;
}

/** A method's map of a step; `maps` holds this map alone. */
export interface StepMap {
  readonly method: string;
  readonly step: number;
  readonly maps: Maps;
}

const REPLY = object({
  maps: listOf(object({ method: text, step: whole, grid: pair(whole), scale: maybe(pair(number)) })),
});
const TOOK = object({ took: maybe(number) });
const METHODS = object({ methods: listOf(METHOD) });
const ESTIMATES = object({ seconds: recordOf(number) });

/** Reads the kernel's reply; throws an Error if its bytes do not match its header. */
export function readMaps({ content, buffers }: Message): StepMap[] {
  const { maps } = REPLY(content, "saliency");
  const planes = replyMaps(buffers[0], maps);
  return maps.map(({ method, step }, index) => ({ method, step, maps: planes[index] as Maps }));
}

export class Saliency implements Lens {
  readonly maps = signal<readonly StepMap[]>([]);
  readonly methods = signal<readonly Method[]>([]);
  /** How many seconds a map takes, by method: estimated, or as the last map of this run took. */
  readonly seconds = signal<Readonly<Record<string, number>> | null>(null);
  /** The methods for which there is an estimate: those that can be computed here. Null as long as there is none. */
  readonly #computable = signal<readonly string[] | null>(null);
  readonly job: Job;
  readonly estimate: Job;
  /** The run that the maps are of. */
  readonly #mapsRun = signal("");
  #requestedRun = "";
  /** The overlay that was acted upon last. */
  #handledOverlay = ATTENTION;

  constructor(private readonly session: Session) {
    this.job = new Job(session, (reply, task) => this.#add(reply, task.run as string));
    this.estimate = new Job(session, (reply) => {
      const { seconds } = ESTIMATES(reply.content, "seconds");
      this.seconds.value = seconds;
      this.#computable.value = Object.keys(seconds);
    });
  }

  /** The current run and step; null without a step. */
  get current(): { readonly run: Run; readonly step: number } | null {
    const run = this.session.store.shown.value;
    const step = run?.nearest(this.session.viewState.step.value);
    return run && step ? { run, step: step.index } : null;
  }

  /** Requests the run's maps, and an estimate for new ones, once the run has ended; call it in a reaction. */
  request(): void {
    const { store, connected, isOffline } = this.session;
    const run = store.shown.value;
    if (!connected.value) this.#requestedRun = "";
    if (!run?.end.value || !connected.value || run.info.run === this.#requestedRun) return;
    this.#requestedRun = run.info.run;
    this.maps.value = [];
    this.job.reset();
    void this.#ask(this.#requestedRun);
    if (!isOffline) this.estimate.start({ kind: "estimates", run: this.#requestedRun });
  }

  async #ask(run: string): Promise<void> {
    try {
      const reply = await this.session.ask({ type: "saliency", run });
      const maps = readMaps(reply);
      if (run !== this.#requestedRun) return;
      this.methods.value = METHODS(reply.content, "saliency").methods;
      this.maps.value = maps;
      this.#mapsRun.value = run;
    } catch {
      // The estimate of the same run shows what is wrong.
    }
  }

  /** Computes the map that Python wants on the stage, if the run does not have it; call it in a reaction. */
  computeOverlay(): void {
    const { current, overlay } = this;
    if (overlay === this.#handledOverlay || current?.run.info.run !== this.#mapsRun.value) return;
    this.#handledOverlay = overlay;
    if (overlay !== ATTENTION && !this.session.isOffline && !this.mapAt(overlay, current.step)) this.compute(overlay);
  }

  /** Whether a method can be computed here; null while that is not known of a page that can compute some of them. */
  canCompute(method: string): boolean | null {
    return this.#computable.value?.includes(method) ?? (this.session.canCompute("relevance") || null);
  }

  compute(method: string): void {
    const { current } = this;
    if (current) this.job.start({ kind: "saliency", run: current.run.info.run, step: current.step, method });
  }

  #add(reply: Message, run: string): void {
    if (run !== this.#mapsRun.value) return;
    const { took } = TOOK(reply.content, "saliency");
    for (const map of readMaps(reply)) {
      if (took !== null) this.seconds.value = { ...this.seconds.value, [map.method]: took };
      const others = this.maps.value.filter(({ method, step }) => method !== map.method || step !== map.step);
      this.maps.value = [...others, map];
      this.setOverlay(map.method);
    }
  }

  get overlay(): string {
    return this.session.traits.overlay.value;
  }

  /** Shows the maps of a method on the stage; ATTENTION for the heat maps of the words. */
  setOverlay(overlay: string): void {
    this.#handledOverlay = overlay;
    this.session.set({ overlay });
  }

  /** The maps of the shown run. */
  get #shownMaps(): readonly StepMap[] {
    return this.#mapsRun.value === this.session.store.shown.value?.info.run ? this.maps.value : [];
  }

  mapAt(method: string, step: number): StepMap | undefined {
    return this.#shownMaps.find((map) => map.method === method && map.step === step);
  }

  // -- as a lens --

  get #mapOnStage(): StepMap | undefined {
    const { current } = this;
    return current ? this.mapAt(this.overlay, current.step) : undefined;
  }

  get name(): string {
    return labelOf(this.overlay, this.methods.value);
  }

  /** The index after the last word stands for the method's map, which is of no word. */
  get words(): readonly number[] | undefined {
    return this.#mapOnStage && this.current ? [this.current.run.info.words.length] : undefined;
  }

  exported(_: Run, words: readonly number[], allSteps: boolean): LensExport {
    const steps = new Set(this.#shownMaps.filter(({ method }) => method === this.overlay).map(({ step }) => step)).size;
    const isShown = this.words !== undefined || (allSteps && words.length === 0 && steps > 0);
    return isShown ? { method: this.overlay, steps } : {};
  }

  remove(): void {
    this.setOverlay(ATTENTION);
  }

  apply(run: Run, step: StepMessage, [word]: readonly number[]): StepMessage {
    const map = this.#mapOnStage;
    if (!map || word !== run.info.words.length || map.step !== step.index) return step;
    const { height, width, scales, data } = map.maps;
    const all = new Uint8Array((word + 1) * height * width);
    all.set(data, word * height * width);
    const none = run.info.words.map(() => null);
    return { ...step, maps: { height, width, data: all, scales: [...none, scales[0] ?? null] } };
  }
}

const instances = new WeakMap<Session, Saliency>();

/** The maps of a session, shared by all of its components. */
export function saliencyOf(session: Session): Saliency {
  const saliency = instances.get(session) ?? new Saliency(session);
  instances.set(session, saliency);
  return saliency;
}

/** Makes the stage follow the trait `overlay`, also while the drawer is closed. */
export function followOverlay({ session }: Context, signal: AbortSignal): void {
  const maps = saliencyOf(session);
  const { lens } = session.viewState;
  const stop = effect(() => {
    if (session.traits.overlay.value !== ATTENTION) lens.value = maps;
    else if (lens.peek() === maps) lens.value = null;
  });
  signal.addEventListener("abort", stop);
}
