// What has arrived of the runs. The kernel owns the data: this is the page's copy, fed message by message.
// Every message may come twice, late or not at all; feeding is idempotent and says when something is missing.

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { EndMessage, KernelMessage, Note, Range, RunMessage, ScoresMessage, StepMessage } from "./protocol";

export interface Scores {
  readonly concepts: readonly string[];
  /** [step][concept]; a step that has not been scored yet is undefined. */
  readonly cosine: readonly (readonly (number | null)[] | undefined)[];
  readonly share: readonly (readonly (number | null)[] | undefined)[] | null;
  readonly null_band: readonly (Range | null | undefined)[];
  readonly emergence: readonly (number | null)[];
  readonly meter: string | null;
}

export class Run {
  readonly steps: (StepMessage | undefined)[] = [];
  /** Number of different steps that are here. */
  readonly count = signal(0);
  /** Highest step that is here, -1 before the first. */
  readonly latest = signal(-1);
  /** Rises whenever the content of a step changes. */
  readonly revision = signal(0);
  readonly scores = signal<Scores | null>(null);
  readonly end = signal<EndMessage | null>(null);
  readonly notes: Signal<readonly Note[]>;
  /** Seconds since the run began, at the latest step. */
  elapsed = 0;

  constructor(readonly info: RunMessage) {
    this.notes = signal(info.notes);
  }

  /** Whether words have heat maps: the attention of some pipelines cannot be read. */
  get mapped(): boolean {
    return this.info.grid[0] * this.info.grid[1] > 0;
  }

  /** Steps on the slider: what was planned, or what came if that is more, or what there is when it ended early. */
  get length(): number {
    const end = this.end.value;
    const seen = this.latest.value + 1;
    return Math.max(end !== null && end.state === "done" ? end.steps : this.info.steps, seen, 1);
  }

  /** The step at `index`, or the nearest earlier one that is here, or the nearest later one. Signals when it changes. */
  nearest(index: number): StepMessage | undefined {
    this.revision.value;
    for (let i = Math.min(index, this.steps.length - 1); i >= 0; i--) if (this.steps[i]) return this.steps[i];
    return this.steps.find((step) => step !== undefined);
  }

  have(): number[] {
    return this.steps.flatMap((step) => (step ? [step.index] : []));
  }

  addStep(step: StepMessage): void {
    const known = this.steps[step.index];
    // A late preview never replaces an exact image that is already here.
    const next =
      known?.exact && !step.exact && known.images.prediction
        ? { ...step, exact: true, images: { ...step.images, prediction: known.images.prediction } }
        : step;
    this.steps[step.index] = next;
    if (!known) this.count.value++;
    if (step.index > this.latest.value) {
      this.latest.value = step.index;
      this.elapsed = step.elapsed;
    }
    this.revision.value++;
  }

  addFrame(index: number, image: Uint8Array, exact: boolean): boolean {
    const known = this.steps[index];
    if (!known) return false;
    this.steps[index] = { ...known, exact, images: { ...known.images, prediction: image } };
    this.revision.value++;
    return true;
  }

  addScores(message: ScoresMessage): void {
    const known = this.scores.value;
    const same =
      known !== null &&
      known.concepts.length === message.concepts.length &&
      known.concepts.every((concept, i) => concept === message.concepts[i]);
    const cosine = same ? [...known.cosine] : [];
    const share = message.share === null ? null : same && known.share ? [...known.share] : [];
    const band = same ? [...known.null_band] : [];
    message.cosine.forEach((row, i) => {
      cosine[message.start + i] = row;
      band[message.start + i] = message.null_band[i] ?? null;
      if (share) share[message.start + i] = message.share?.[i] ?? row.map(() => null);
    });
    this.scores.value = {
      concepts: message.concepts,
      cosine,
      share,
      null_band: band,
      emergence: message.emergence,
      meter: message.meter,
    };
  }
}

export class RunStore {
  readonly #shown = signal<Run | null>(null);
  readonly #coming = signal<Run | null>(null);
  readonly #refused = signal("");

  /** The run that is looked at. */
  readonly shown: ReadonlySignal<Run | null> = this.#shown;
  /** A run that has begun but has no step yet; until then the previous one stays, dimmed. */
  readonly coming: ReadonlySignal<Run | null> = this.#coming;
  /** The run that was looked at before it. */
  before: Run | null = null;
  /** The kernel's answer to a request that it could not carry out. */
  readonly refused: ReadonlySignal<string> = this.#refused;

  /** The run that the kernel talks about: the one coming, else the one shown. */
  get current(): Run | null {
    return this.#coming.value ?? this.#shown.value;
  }

  clearRefusal(): void {
    this.#refused.value = "";
  }

  /** Takes a message in. False: it belongs to something that is not here, so ask the kernel for what is missing. */
  feed(message: KernelMessage): boolean {
    if (message.type === "run") {
      this.#begin(message);
      return true;
    }
    if (message.type === "error") {
      this.#refused.value = message.message;
      return true;
    }
    // Answers to questions are no part of a run.
    if (message.type === "answer") return true;
    const run = this.#find(message.run);
    if (!run) return false;
    switch (message.type) {
      case "step":
        run.addStep(message);
        if (run === this.#coming.value) this.#show(run);
        return true;
      case "frame":
        return run.addFrame(message.index, message.image, message.exact);
      case "scores":
        run.addScores(message);
        return true;
      case "end":
        run.end.value = message;
        // A run that ended before its first step has nothing to show: the previous one stays.
        if (run === this.#coming.value && message.steps === 0) this.#coming.value = null;
        return run.count.value >= message.steps;
    }
  }

  #begin(message: RunMessage): void {
    const known = this.#find(message.run);
    // A replayed beginning of a run that is here changes nothing but what is written on it.
    if (known) {
      known.notes.value = message.notes;
      return;
    }
    this.#refused.value = "";
    const run = new Run(message);
    if (this.#shown.value === null) this.#show(run);
    else this.#coming.value = run;
  }

  #show(run: Run): void {
    this.#coming.value = null;
    this.before = this.#shown.value;
    this.#shown.value = run;
  }

  #find(id: string): Run | null {
    for (const run of [this.#coming.value, this.#shown.value]) if (run?.info.run === id) return run;
    return null;
  }
}
