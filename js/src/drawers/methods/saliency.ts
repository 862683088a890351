// The maps of the explaining methods: those that the run has, new ones that the kernel computes, and what lies on the
// stage of them.

import {
  ATTENTION,
  bytes,
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
  type Session,
  type StepMessage,
  signal,
  text,
  whole,
} from "../../app/coreExports";
import { Working } from "../job";

export interface Method {
  readonly name: string;
  readonly label: string;
  /** What its map shows, and what it does not. */
  readonly shows: string;
  /** What the project's own evaluation found. */
  readonly found: string;
}

/** What was found is benchmarks/explain/README.md's. */
export const METHODS: readonly Method[] = [
  {
    name: "df_rise",
    label: "DF-RISE",
    shows: "Which latent pixels keep the step's output as it is while others are hidden at random. Not for which word.",
    found: "Tested on known scenes, it finds things no better than chance early, and little better later.",
  },
  {
    name: "df_cam",
    label: "DF-CAM",
    shows: "Where layers are active that the output hangs on, mean over layers. Not what would change without them.",
    found: "Tested on known scenes, it finds things no better than chance.",
  },
  {
    name: "df_lime",
    label: "DF-LIME",
    shows: "How much the output changes with each superpixel, from 300 samples (the paper: 1000). Nothing finer.",
    found: "Tested on known scenes, it finds things no better than chance early, and little better later.",
  },
];

export function labelOf(method: string): string {
  return METHODS.find(({ name }) => name === method)?.label ?? method;
}

/** One method's map of one step; `maps` holds this one map. */
export interface StepMap {
  readonly method: string;
  readonly step: number;
  readonly maps: Maps;
}

const ANSWER = object({
  maps: listOf(object({ method: text, step: whole, grid: pair(whole), scale: maybe(pair(number)) })),
});
const SECONDS = object({ seconds: object({ df_rise: number, df_cam: number, df_lime: number }) });

/** Reads the kernel's answer; throws if its bytes do not fit what it says of them. */
export function readMaps({ content, buffers }: Message): StepMap[] {
  const values = bytes(buffers[0], "maps");
  let end = 0;
  const cut = ANSWER(content, "saliency").maps.map(({ grid: [height, width], scale, method, step }) => {
    const start = end;
    end += height * width;
    return { method, step, maps: { height, width, scales: [scale], data: values.subarray(start, end) } };
  });
  if (end !== values.length) throw new Error(`maps: ${values.length} bytes for ${end} cells`);
  return cut;
}

export class Saliency implements Lens {
  readonly maps = signal<readonly StepMap[]>([]);
  /** How long a map takes at most, by method. */
  readonly seconds = signal<Readonly<Record<string, number>> | null>(null);
  readonly working: Working;
  readonly estimating: Working;
  /** The run whose maps these are. */
  readonly #listed = signal("");
  #asked = "";
  #laid = ATTENTION;

  constructor(private readonly session: Session) {
    this.working = new Working(session, (answer, task) => this.#add(answer, task.run as string));
    this.estimating = new Working(session, (answer) => {
      this.seconds.value = SECONDS(answer.content, "seconds").seconds;
    });
  }

  /** The run and the step that are looked at; null where there is none whose maps could be had. */
  get now(): { readonly run: Run; readonly step: number } | null {
    const run = this.session.store.shown.value;
    const step = run?.nearest(this.session.look.step.value);
    return run && step ? { run, step: step.index } : null;
  }

  /** Asks for what the run has, and how long more of it would take; once it is over. */
  want(): void {
    const { store, connected, keeps } = this.session;
    const run = store.shown.value;
    if (!connected.value) this.#asked = "";
    if (!run?.end.value || !connected.value || run.info.run === this.#asked) return;
    this.#asked = run.info.run;
    this.maps.value = [];
    this.working.drop();
    this.working.standing.value = null;
    void this.#list(this.#asked);
    if (keeps) this.estimating.begin({ kind: "estimates", run: this.#asked });
  }

  async #list(run: string): Promise<void> {
    try {
      const maps = readMaps(await this.session.ask({ type: "saliency", run }));
      if (run !== this.#asked) return;
      this.maps.value = maps;
      this.#listed.value = run;
    } catch {
      // The estimate of the same run says what is wrong.
    }
  }

  /** Begins what Python wants on the stage, where the run has no such map of this step. */
  lay(): void {
    const { now, overlay } = this;
    if (overlay === this.#laid || now?.run.info.run !== this.#listed.value) return;
    this.#laid = overlay;
    if (overlay !== ATTENTION && this.session.keeps && !this.at(overlay, now.step)) this.begin(overlay);
  }

  begin(method: string): void {
    const { now } = this;
    if (now) this.working.begin({ kind: "saliency", run: now.run.info.run, step: now.step, method });
  }

  #add(answer: Message, run: string): void {
    if (run !== this.#listed.value) return;
    for (const map of readMaps(answer)) {
      const others = this.maps.value.filter(({ method, step }) => method !== map.method || step !== map.step);
      this.maps.value = [...others, map];
      this.show(map.method);
    }
  }

  /** Lays the maps of a method on the stage, or takes them off. */
  show(overlay: string): void {
    this.#laid = overlay;
    this.session.set({ overlay });
  }

  get overlay(): string {
    return this.session.traits.overlay.value;
  }

  at(method: string, step: number): StepMap | undefined {
    const here = this.#listed.value === this.session.store.shown.value?.info.run;
    return here ? this.maps.value.find((one) => one.method === method && one.step === step) : undefined;
  }

  /** The steps of the shown run that have a map of this method. */
  having(method: string): readonly number[] {
    const here = this.#listed.value === this.session.store.shown.value?.info.run;
    return here ? this.maps.value.flatMap((one) => (one.method === method ? [one.step] : [])) : [];
  }

  // -- as what lies on the stage --

  get #laying(): StepMap | undefined {
    const { now } = this;
    return now ? this.at(this.overlay, now.step) : undefined;
  }

  get name(): string {
    return labelOf(this.overlay);
  }

  get words(): readonly number[] | undefined {
    return this.#laying && this.now ? [this.now.run.info.words.length] : undefined;
  }

  exported(_: Run, words: readonly number[], allSteps: boolean): LensExport {
    const steps = new Set(this.having(this.overlay)).size;
    const isShown = this.words !== undefined || (allSteps && words.length === 0 && steps > 0);
    return isShown ? { method: this.overlay, steps } : {};
  }

  /** The step with the map as that of a word after the last. */
  apply(run: Run, step: StepMessage, [word]: readonly number[]): StepMessage {
    const laying = this.#laying;
    if (!laying || word !== run.info.words.length || laying.step !== step.index) return step;
    const { height, width, scales, data } = laying.maps;
    const all = new Uint8Array((word + 1) * height * width);
    all.set(data, word * height * width);
    const none = run.info.words.map(() => null);
    return { ...step, maps: { height, width, data: all, scales: [...none, scales[0] ?? null] } };
  }
}

const known = new WeakMap<Session, Saliency>();

/** One for all views of a session. */
export function saliencyOf(session: Session): Saliency {
  const found = known.get(session) ?? new Saliency(session);
  known.set(session, found);
  return found;
}

/** Keeps on the stage what the trait `overlay` says, also while the drawer is closed. */
export function layMaps({ session }: Context, signal: AbortSignal): void {
  const maps = saliencyOf(session);
  const { lens } = session.look;
  const stop = effect(() => {
    if (session.traits.overlay.value !== ATTENTION) lens.value = maps;
    else if (lens.peek() === maps) lens.value = null;
  });
  signal.addEventListener("abort", stop);
}
