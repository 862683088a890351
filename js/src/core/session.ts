// Connects a host with the store and the view state: hello, acknowledgements, gaps, traits, requests. The kernel owns the
// data and the settings. The page owns the view state, and publishes `step` and `selected` so that Python can follow.

import { batch, computed, effect, type ReadonlySignal, type Signal, signal, untracked } from "@preact/signals";
import type { Host, Status, TraitName, Traits } from "./host";
import { withMaps } from "./mapKind";
import { unpack } from "./packedRun";
import { decode, type KernelRequest, type Message, type StepMessage } from "./protocol";
import { Requests } from "./requests";
import { type Run, RunStore } from "./store";
import { ViewState } from "./viewState";

const DEFAULTS: Traits = {
  prompt: "",
  negative_prompt: null,
  seed: 0,
  steps: null,
  guidance_scale: null,
  schedule: "uniform",
  schedule_strength: 60,
  weights: {},
  concepts: [],
  step: 0,
  selected: [],
  overlay: "attention",
  status: "idle",
  progress: 0,
  error: "",
  _notice: "",
  _can_run: false,
  _vocabulary: {},
  _takes_concepts: false,
  _comparison_run: "",
  _sheet: [],
  _tour: 0,
  _snapshot: null,
};

/** How long messages must rest before the page asks for missing ones, and the shortest time between two publications. */
const SETTLE_MS = 400;
const PUBLISH_MS = 120;
/** After this long without a reply the page says that the kernel is busy or gone. */
const PATIENCE_MS = 5000;
/** A run without a message for this long, and for several times its pace, makes the page ask for a sign of life: a host
 *  may restart a kernel that died without notice. */
const SILENCE_MS = 10_000;

export interface Settings {
  readonly prompt: string;
  readonly seed: number;
  readonly steps: number | null;
  readonly guidance_scale: number | null;
  readonly seeds: number;
  readonly draft: boolean;
}

type TraitSignals = { readonly [K in TraitName]: Signal<Traits[K]> };

export class Session {
  readonly store = new RunStore();
  readonly viewState = new ViewState();
  readonly traits: TraitSignals;
  readonly connected = signal(true);
  /** True while a request has been waiting for its reply suspiciously long. */
  readonly unanswered = signal(false);
  /** The number of runs requested here. */
  readonly requestedRuns = signal(0);
  /** The status on the page: the kernel's, or that of a Run or Stop just requested. */
  readonly status: ReadonlySignal<Status>;
  readonly busy: ReadonlySignal<boolean>;

  /** Whether there is no kernel to write notes to or to compute anything. */
  readonly isOffline: boolean;

  readonly #host: Host;
  readonly #requests: Requests;
  readonly #view: string;
  readonly #requestedStatus = signal<Status | null>(null);
  #lastRun: Run | null = null;
  #seq = -1;
  #settleTimer: ReturnType<typeof setTimeout> | undefined;
  #patienceTimer: ReturnType<typeof setTimeout> | undefined;
  #publishTimer: ReturnType<typeof setTimeout> | undefined;
  #silenceTimer: ReturnType<typeof setTimeout> | undefined;
  #published: { step: number; selected: string };

  constructor(host: Host) {
    this.#host = host;
    this.isOffline = host.isOffline;
    this.#requests = new Requests((question) => host.send(question));
    this.#view = Math.random().toString(36).slice(2, 10);
    const names = Object.keys(DEFAULTS) as TraitName[];
    this.traits = Object.fromEntries(names.map((name) => [name, signal(this.#read(name))])) as unknown as TraitSignals;
    this.status = computed(() => this.#requestedStatus.value ?? this.traits.status.value);
    this.busy = computed(() => ["queued", "running", "stopping"].includes(this.status.value));
    this.#published = { step: this.traits.step.value, selected: JSON.stringify(this.traits.selected.value) };
    this.viewState.step.value = this.traits.step.value;
    this.viewState.pinned.value = [...this.traits.selected.value];
    // No step has been chosen yet: show the latest one, also as more arrive.
    this.viewState.following.value = this.busy.value || this.traits.step.value === 0;

    for (const name of names) host.onChange(name, () => this.#changed(name));
    host.onMessage((content, buffers) => this.#receive(content, buffers));
    this.#unpackSnapshot();
    host.onConnection((connected) => {
      this.connected.value = connected;
      this.#requests.clear();
      if (connected) this.#hello();
    });

    const stops = [
      effect(() => this.#follow()),
      effect(() => this.#carryChoice()),
      effect(() => this.#publishSoon()),
      effect(() => this.#watchForSilence()),
    ];
    host.signal.addEventListener("abort", () => {
      for (const stop of stops) stop();
      this.connected.value = false; // jobs must not repeat their requests
      this.#requests.clear();
      clearTimeout(this.#settleTimer);
      clearTimeout(this.#patienceTimer);
      clearTimeout(this.#publishTimer);
      clearTimeout(this.#silenceTimer);
    });
  }

  /** Starts a run; the kernel stops the current one. */
  run(settings: Partial<Settings>): void {
    batch(() => {
      this.store.clearRefusal();
      this.viewState.following.value = true;
      this.requestedRuns.value++;
      if (settings.prompt !== undefined) this.traits.prompt.value = settings.prompt;
      if (!this.busy.value) this.#requestedStatus.value = "queued";
    });
    this.#request({ type: "run", ...settings });
  }

  /** Shows a run from the history. */
  show(run: string): void {
    this.#request({ type: "show", run });
  }

  stop(): void {
    this.#requestedStatus.value = "stopping";
    this.#request({ type: "stop" });
  }

  /** The kernel's reply; rejects with the kernel's message if it refuses. */
  ask(question: KernelRequest): Promise<Message> {
    return this.#requests.ask(question);
  }

  /** Whether the host can answer requests of a type at all: an offline page holds only some replies. */
  canAsk(type: KernelRequest["type"]): boolean {
    void this.traits._can_run.value; // a page that paints answers more once its model is there
    return this.#host.canAnswer?.(type) ?? true;
  }

  /** Whether results of a run are those that the page holds. */
  holds(run: string): boolean {
    return this.#host.holds?.(run) ?? this.isOffline;
  }

  /** Whether jobs of a kind can be done where there is a kernel: a page that paints has no gradients. */
  canCompute(kind: string): boolean {
    return this.#host.jobs?.includes(kind) ?? true;
  }

  /** Sets traits, here and in the kernel. */
  set(values: Partial<Traits>): void {
    this.#host.set(values);
  }

  /** Moves to a step on the user's request. */
  goTo(step: number): void {
    const run = this.store.shown.value;
    if (!run) return;
    const last = Math.max(0, run.latest.value);
    batch(() => {
      this.viewState.following.value = false;
      this.viewState.step.value = Math.min(last, Math.max(0, Math.round(step)));
    });
  }

  follow(): void {
    this.viewState.following.value = true;
  }

  #read<K extends TraitName>(name: K): Traits[K] {
    return this.#host.get(name) ?? DEFAULTS[name];
  }

  #changed(name: TraitName): void {
    const next = this.#read(name);
    const wasBusy = this.busy.value;
    batch(() => {
      (this.traits[name] as Signal<unknown>).value = next;
      if (name === "status" || name === "_notice") this.#clearPatience();
      // Follow a run that begins, also where Python began it.
      if (name === "status" && !wasBusy && this.busy.value) this.viewState.following.value = true;
      if (name === "step" && next !== this.#published.step) {
        this.#published.step = next as number;
        this.viewState.following.value = false;
        this.viewState.step.value = next as number;
      }
      if (name === "selected" && JSON.stringify(next) !== this.#published.selected) {
        this.#published.selected = JSON.stringify(next);
        this.viewState.pinned.value = [...(next as readonly number[])];
      }
      if (name === "_snapshot") this.#unpackSnapshot();
    });
  }

  #receive(content: unknown, buffers: readonly ArrayBufferView[]): void {
    batch(() => {
      try {
        const message = decode({ content, buffers });
        // A skipped number means that a message was lost.
        const gap = this.#seq >= 0 && message.seq > this.#seq + 1;
        this.#seq = Math.max(this.#seq, message.seq);
        if (message.type === "reply") {
          this.#requests.settle(message.id, message);
        } else if (message.type === "error" && message.id !== null) this.#requests.settle(message.id, message.message);
        else {
          if (!this.store.feed(message) || gap) this.#helloSoon();
          if (message.type === "error") this.#requestedStatus.value = null;
          this.#clearPatience();
        }
      } catch (error) {
        // An invalid message must not stop the ones after it: it is acknowledged all the same.
        console.warn("diffvis_widget:", error);
      }
    });
    const seq = (content as { seq?: unknown } | null)?.seq;
    if (typeof seq === "number") this.#host.send({ type: "ack", seq });
  }

  #unpackSnapshot(): void {
    const packed = this.traits._snapshot.value;
    if (!packed || packed.byteLength === 0) return;
    try {
      batch(() => {
        const messages = unpack(packed).map(decode);
        const run = messages.find((message) => message.type === "run")?.run;
        // A run in the store is newer than a saved one.
        if (this.store.current && this.store.current.info.run !== run) return;
        for (const message of messages) this.store.feed(message);
      });
    } catch (error) {
      console.warn("diffvis_widget: the saved run cannot be read:", error);
    }
  }

  #request(message: Parameters<Host["send"]>[0]): void {
    this.#expectReply();
    this.#host.send(message);
  }

  #expectReply(): void {
    clearTimeout(this.#patienceTimer);
    this.#patienceTimer = setTimeout(() => {
      this.unanswered.value = true;
    }, PATIENCE_MS);
  }

  #clearPatience(): void {
    clearTimeout(this.#patienceTimer);
    this.unanswered.value = false;
    this.#requestedStatus.value = null;
  }

  #hello(): void {
    const run = this.store.current;
    this.#host.send({ type: "hello", view: this.#view, run: run?.info.run ?? null, have: run?.receivedSteps() ?? [] });
  }

  #helloSoon(): void {
    clearTimeout(this.#settleTimer);
    this.#settleTimer = setTimeout(() => {
      const run = this.store.current;
      const end = run?.end.value;
      // Late steps may have arrived in the meantime.
      if (run && end && run.count.value >= end.steps) return;
      this.#hello();
    }, SETTLE_MS);
  }

  /** The step that is shown, with the maps of the chosen kind. */
  get step(): StepMessage | undefined {
    const step = this.store.shown.value?.nearest(this.viewState.step.value);
    return step && withMaps(step, this.viewState.mapKind.value);
  }

  /** The step as the stage shows it: through the lens. */
  get staged(): StepMessage | undefined {
    const run = this.store.shown.value;
    const { step } = this;
    const lens = this.viewState.lens.value;
    return run && step && lens ? lens.apply(run, step, this.viewState.words.value) : step;
  }

  #watchForSilence(): void {
    const run = this.store.current;
    const steps = run?.count.value ?? 0;
    clearTimeout(this.#silenceTimer);
    if (!this.busy.value || !this.connected.value) return;
    const pace = run && steps > 0 ? (1000 * run.elapsed) / steps : 0;
    this.#silenceTimer = setTimeout(() => this.#checkKernel(), Math.max(SILENCE_MS, 4 * pace));
  }

  /** Sends a small request, to see whether the kernel is alive. */
  #checkKernel(): void {
    this.#expectReply();
    this.ask({ type: "runs" }).then(
      () => {
        this.#clearPatience();
        this.#watchForSilence();
      },
      () => undefined,
    );
  }

  #follow(): void {
    const run = this.store.shown.value;
    if (!run || !this.viewState.following.value) return;
    const latest = run.latest.value;
    if (latest >= 0) this.viewState.step.value = latest;
  }

  #carryChoice(): void {
    const run = this.store.shown.value;
    untracked(() => {
      if (run && this.#lastRun && run !== this.#lastRun) this.viewState.carry(this.#lastRun, run);
      this.#lastRun = run;
    });
  }

  // Publishes the view state: at most every PUBLISH_MS, and no steps while following live.
  #publishSoon(): void {
    const step = this.viewState.step.value;
    const selected = JSON.stringify(this.viewState.pinned.value);
    const live = this.viewState.following.value && this.busy.value;
    if ((live || step === this.#published.step) && selected === this.#published.selected) return;
    if (!this.store.shown.value) return;
    this.#publishTimer ??= setTimeout(() => {
      this.#publishTimer = undefined;
      const values: { step?: number; selected?: readonly number[] } = {};
      const now = { step: this.viewState.step.value, selected: JSON.stringify(this.viewState.pinned.value) };
      if (now.step !== this.#published.step && !(this.viewState.following.value && this.busy.value))
        values.step = now.step;
      if (now.selected !== this.#published.selected) values.selected = this.viewState.pinned.value;
      this.#published = { step: values.step ?? this.#published.step, selected: now.selected };
      if (Object.keys(values).length > 0) this.#host.set(values);
    }, PUBLISH_MS);
  }
}
