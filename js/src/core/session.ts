// Ties a host to the store and to what is looked at: hello, acknowledgements, gaps, traits, requests.
// Rule: the kernel owns the data and the settings; the page owns only what is looked at, and tells the kernel
// (`step`, `selected`) so that Python can follow.

import { batch, computed, effect, type ReadonlySignal, type Signal, signal, untracked } from "@preact/signals";
import type { Host, Status, TraitName, Traits } from "./host";
import { unpack } from "./packedRun";
import { decode, type Message, type Question, type StepMessage } from "./protocol";
import { Requests } from "./requests";
import { type Run, RunStore } from "./store";
import { Look } from "./viewState";

const DEFAULTS: Traits = {
  prompt: "",
  negative_prompt: null,
  seed: 0,
  steps: 30,
  guidance_scale: 7.5,
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
  _beside: "",
  _snapshot: null,
};

/** How long to let messages settle before asking for what is missing, and how often `step` is told at most. */
const SETTLE_MS = 400;
const TELL_MS = 120;
/** A request without any answer for this long: the kernel is busy or gone, and the page says so. */
const PATIENCE_MS = 5000;
/** A run that is silent for this long, and for several times its pace, is asked after: a host may restart a kernel that
 *  died and say nothing. */
const SILENCE_MS = 10_000;

export interface Settings {
  readonly prompt: string;
  readonly seed: number;
  readonly steps: number;
  readonly guidance_scale: number;
}

type TraitSignals = { readonly [K in TraitName]: Signal<Traits[K]> };

export class Session {
  readonly store = new RunStore();
  readonly look = new Look();
  readonly traits: TraitSignals;
  readonly connected = signal(true);
  /** True while a request has been waiting for its answer for suspiciously long. */
  readonly unanswered = signal(false);
  /** What the page shows as the status: the kernel's word, plus a Stop or Run that was just asked for. */
  readonly status: ReadonlySignal<Status>;
  readonly busy: ReadonlySignal<boolean>;

  /** Whether notes can be written: somebody keeps them. */
  readonly keeps: boolean;

  readonly #host: Host;
  readonly #requests: Requests;
  readonly #view: string;
  readonly #asked = signal<Status | null>(null);
  #last: Run | null = null;
  #seq = -1;
  #settle: ReturnType<typeof setTimeout> | undefined;
  #patience: ReturnType<typeof setTimeout> | undefined;
  #tell: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #told: { step: number; selected: string };

  constructor(host: Host) {
    this.#host = host;
    this.keeps = host.keeps;
    this.#requests = new Requests((question) => host.send(question));
    this.#view = Math.random().toString(36).slice(2, 10);
    const names = Object.keys(DEFAULTS) as TraitName[];
    this.traits = Object.fromEntries(names.map((name) => [name, signal(this.#read(name))])) as unknown as TraitSignals;
    this.status = computed(() => this.#asked.value ?? this.traits.status.value);
    this.busy = computed(() => ["queued", "running", "stopping"].includes(this.status.value));
    this.#told = { step: this.traits.step.value, selected: JSON.stringify(this.traits.selected.value) };
    this.look.step.value = this.traits.step.value;
    this.look.pinned.value = [...this.traits.selected.value];
    // Nobody has chosen a step yet: show the newest, now and as more arrive.
    this.look.following.value = this.busy.value || this.traits.step.value === 0;

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
      effect(() => this.#carryPins()),
      effect(() => this.#tellSoon()),
      effect(() => this.#watch()),
    ];
    host.signal.addEventListener("abort", () => {
      for (const stop of stops) stop();
      this.connected.value = false; // what waits for an answer must not ask again
      this.#requests.clear();
      clearTimeout(this.#settle);
      clearTimeout(this.#patience);
      clearTimeout(this.#tell);
      clearTimeout(this.#silence);
    });
  }

  /** Starts a run; a run under way is stopped by the kernel: the latest wins. */
  run(settings: Partial<Settings>): void {
    batch(() => {
      this.store.clearRefusal();
      this.look.following.value = true;
      if (settings.prompt !== undefined) this.traits.prompt.value = settings.prompt;
      if (!this.busy.value) this.#asked.value = "queued";
    });
    this.#ask({ type: "run", ...settings });
  }

  /** Shows a run that the kernel keeps. */
  show(run: string): void {
    this.#ask({ type: "show", run });
  }

  stop(): void {
    this.#asked.value = "stopping";
    this.#ask({ type: "stop" });
  }

  /** The kernel's answer to a question; an Error with its words if it refuses. */
  ask(question: Question): Promise<Message> {
    return this.#requests.ask(question);
  }

  /** Whether the host can answer requests of a type at all: an offline page holds only some replies. */
  canAsk(type: Question["type"]): boolean {
    return this.#host.canAnswer?.(type) ?? true;
  }

  /** Settings that take effect with the next run. */
  set(values: Partial<Traits>): void {
    this.#host.set(values);
  }

  /** Moves to a step because the reader asked for it. */
  goTo(step: number): void {
    const run = this.store.shown.value;
    if (!run) return;
    const last = Math.max(0, run.latest.value);
    batch(() => {
      this.look.following.value = false;
      this.look.step.value = Math.min(last, Math.max(0, Math.round(step)));
    });
  }

  follow(): void {
    this.look.following.value = true;
  }

  #read<K extends TraitName>(name: K): Traits[K] {
    return this.#host.get(name) ?? DEFAULTS[name];
  }

  #changed(name: TraitName): void {
    const next = this.#read(name);
    const wasBusy = this.busy.value;
    batch(() => {
      (this.traits[name] as Signal<unknown>).value = next;
      if (name === "status" || name === "_notice") this.#answered();
      // A run that begins is watched live, whoever began it.
      if (name === "status" && !wasBusy && this.busy.value) this.look.following.value = true;
      if (name === "step" && next !== this.#told.step) {
        this.#told.step = next as number;
        this.look.following.value = false;
        this.look.step.value = next as number;
      }
      if (name === "selected" && JSON.stringify(next) !== this.#told.selected) {
        this.#told.selected = JSON.stringify(next);
        this.look.pinned.value = [...(next as readonly number[])];
      }
      if (name === "_snapshot") this.#unpackSnapshot();
    });
  }

  #receive(content: unknown, buffers: readonly ArrayBufferView[]): void {
    batch(() => {
      try {
        const message = decode({ content, buffers });
        // A number was skipped: something was dropped on the way.
        const gap = this.#seq >= 0 && message.seq > this.#seq + 1;
        this.#seq = Math.max(this.#seq, message.seq);
        if (message.type === "answer") {
          this.#requests.settle(message.id, message);
        } else if (message.type === "error" && message.id !== null) this.#requests.settle(message.id, message.message);
        else {
          if (!this.store.feed(message) || gap) this.#helloSoon();
          if (message.type === "error") this.#asked.value = null;
          this.#answered();
        }
      } catch (error) {
        // A message that cannot be read must not stop the ones after it; the acknowledgement keeps them coming.
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
        // A run that is here, or coming, is newer than what was saved of it.
        if (this.store.current && this.store.current.info.run !== run) return;
        for (const message of messages) this.store.feed(message);
      });
    } catch (error) {
      console.warn("diffvis_widget: the saved run cannot be read:", error);
    }
  }

  #ask(message: Parameters<Host["send"]>[0]): void {
    this.#expectAnswer();
    this.#host.send(message);
  }

  #expectAnswer(): void {
    clearTimeout(this.#patience);
    this.#patience = setTimeout(() => {
      this.unanswered.value = true;
    }, PATIENCE_MS);
  }

  #answered(): void {
    clearTimeout(this.#patience);
    this.unanswered.value = false;
    this.#asked.value = null;
  }

  #hello(): void {
    const run = this.store.current;
    this.#host.send({ type: "hello", view: this.#view, run: run?.info.run ?? null, have: run?.have() ?? [] });
  }

  #helloSoon(): void {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      const run = this.store.current;
      const end = run?.end.value;
      // Late steps may have come by themselves in the meantime.
      if (run && end && run.count.value >= end.steps) return;
      this.#hello();
    }, SETTLE_MS);
  }

  /** The step as the stage shows it. */
  get staged(): StepMessage | undefined {
    const run = this.store.shown.value;
    const step = run?.nearest(this.look.step.value);
    const lens = this.look.lens.value;
    return run && step && lens ? lens.apply(run, step, this.look.words.value) : step;
  }

  #watch(): void {
    const run = this.store.current;
    const steps = run?.count.value ?? 0;
    clearTimeout(this.#silence);
    if (!this.busy.value || !this.connected.value) return;
    const pace = run && steps > 0 ? (1000 * run.elapsed) / steps : 0;
    this.#silence = setTimeout(() => this.#checkKernel(), Math.max(SILENCE_MS, 4 * pace));
  }

  /** Asks for something small, to see whether the kernel is there. */
  #checkKernel(): void {
    this.#expectAnswer();
    this.ask({ type: "runs" }).then(
      () => {
        this.#answered();
        this.#watch();
      },
      () => undefined,
    );
  }

  #follow(): void {
    const run = this.store.shown.value;
    if (!run || !this.look.following.value) return;
    const latest = run.latest.value;
    if (latest >= 0) this.look.step.value = latest;
  }

  #carryPins(): void {
    const run = this.store.shown.value;
    untracked(() => {
      if (run && this.#last && run !== this.#last) this.look.carry(this.#last, run);
      this.#last = run;
    });
  }

  // Tells the kernel what is looked at: at once when it rests, at most every TELL_MS while it moves, and not at
  // all while following live.
  #tellSoon(): void {
    const step = this.look.step.value;
    const selected = JSON.stringify(this.look.pinned.value);
    const live = this.look.following.value && this.busy.value;
    if ((live || step === this.#told.step) && selected === this.#told.selected) return;
    if (!this.store.shown.value) return;
    this.#tell ??= setTimeout(() => {
      this.#tell = undefined;
      const values: { step?: number; selected?: readonly number[] } = {};
      const now = { step: this.look.step.value, selected: JSON.stringify(this.look.pinned.value) };
      if (now.step !== this.#told.step && !(this.look.following.value && this.busy.value)) values.step = now.step;
      if (now.selected !== this.#told.selected) values.selected = this.look.pinned.value;
      this.#told = { step: values.step ?? this.#told.step, selected: now.selected };
      if (Object.keys(values).length > 0) this.#host.set(values);
    }, TELL_MS);
  }
}
