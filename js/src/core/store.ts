// The page's copy of the runs, which the kernel owns. Messages may arrive twice, late or not at all: feeding one is
// idempotent, and reports when something is missing.

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { EndMessage, KernelMessage, Note, Range, RunMessage, ScoresMessage, StepMessage, View } from "./protocol";

export interface Scores {
  readonly concepts: readonly string[];
  /** [step][concept]; undefined for a step without scores. */
  readonly cosine: readonly (readonly (number | null)[] | undefined)[];
  readonly share: readonly (readonly (number | null)[] | undefined)[] | null;
  readonly null_band: readonly (Range | null | undefined)[];
  readonly emergence: readonly (number | null)[];
  readonly meter: string | null;
  /** [step][concept]: 1 present, 0 absent, null not sure; null for a meter that is not calibrated. */
  readonly present: readonly (readonly (number | null)[] | undefined)[] | null;
}

/** The step with exact images of a view: one, or of a video one for each latent frame. */
function withExact(step: StepMessage, view: View, images: readonly Uint8Array[]): StepMessage {
  const [image] = images;
  if (!image) return step;
  return {
    ...step,
    exact: step.exact || view === "prediction",
    previews: step.previews.filter((other) => other !== view),
    images: { ...step.images, [view]: image },
    frames: step.frames?.map((frame, i) => withExact(frame, view, images.slice(i, i + 1))) ?? null,
  };
}

/** The images of a view: of a video, of all latent frames. */
function imagesOf(step: StepMessage, view: View): readonly Uint8Array[] {
  return (step.frames ?? [step]).flatMap((frame) => frame.images[view] ?? []);
}

export class Run {
  readonly steps: (StepMessage | undefined)[] = [];
  /** Number of distinct steps received. */
  readonly count = signal(0);
  /** The highest step received, -1 before the first. */
  readonly latest = signal(-1);
  /** Increases whenever the content of a step changes. */
  readonly revision = signal(0);
  readonly scores = signal<Scores | null>(null);
  readonly end = signal<EndMessage | null>(null);
  readonly notes: Signal<readonly Note[]>;
  /** Seconds from the start of the run to its latest step, and to its first one. */
  elapsed = 0;
  firstElapsed = 0;
  /** The latent frame of a video that is shown, and the frame of the final video in place of the last step's image. */
  readonly frame = signal(0);
  readonly videoFrame = signal<number | null>(null);

  constructor(readonly info: RunMessage) {
    this.notes = signal(info.notes);
  }

  /** Whether words have heat maps: the attention of some pipelines cannot be recorded. */
  get hasMaps(): boolean {
    return this.info.grid[0] * this.info.grid[1] > 0;
  }

  /** The number of steps on the slider: those planned, or those received if there are more. */
  get length(): number {
    const end = this.end.value;
    const received = this.latest.value + 1;
    return Math.max(end !== null && end.state === "done" ? end.steps : this.info.steps, received, 1);
  }

  /** The step at `index`, else the nearest earlier one, else the nearest later one. Tracked by signals. */
  nearest(index: number): StepMessage | undefined {
    this.revision.value;
    let i = Math.min(index, this.steps.length - 1);
    while (i > 0 && !this.steps[i]) i--;
    return this.atFrame(this.steps[i] ?? this.steps.find((step) => step !== undefined));
  }

  /** The step at the frame that is shown; the step itself for an image. Tracked by signals. */
  atFrame(step: StepMessage | undefined): StepMessage | undefined {
    const shown = step?.frames?.[this.frame.value];
    if (!shown) return step;
    const image = this.end.value?.video[this.videoFrame.value ?? -1];
    return image && shown.index + 1 === this.length
      ? { ...shown, images: { ...shown.images, prediction: image } }
      : shown;
  }

  receivedSteps(): number[] {
    return this.steps.flatMap((step) => (step ? [step.index] : []));
  }

  addStep(step: StepMessage): void {
    const old = this.steps[step.index];
    // A late preview never replaces an exact image.
    let next = old?.exact && !step.exact ? withExact(step, "prediction", imagesOf(old, "prediction")) : step;
    if (old && !old.previews.includes("latents")) next = withExact(next, "latents", imagesOf(old, "latents"));
    this.steps[step.index] = next;
    if (!old) this.count.value++;
    if (step.index === 0) this.firstElapsed = step.elapsed;
    if (step.index > this.latest.value) {
      this.latest.value = step.index;
      this.elapsed = step.elapsed;
    }
    this.revision.value++;
  }

  addFrame(index: number, view: View, images: readonly Uint8Array[]): boolean {
    const step = this.steps[index];
    if (!step) return false;
    this.steps[index] = withExact(step, view, images);
    this.revision.value++;
    return true;
  }

  addScores(message: ScoresMessage): void {
    const old = this.scores.value;
    const isSame =
      old !== null &&
      old.concepts.length === message.concepts.length &&
      old.concepts.every((concept, i) => concept === message.concepts[i]);
    const cosine = isSame ? [...old.cosine] : [];
    const share = message.share === null ? null : isSame && old.share ? [...old.share] : [];
    const band = isSame ? [...old.null_band] : [];
    const present = message.present === null ? null : isSame && old.present ? [...old.present] : [];
    message.cosine.forEach((row, i) => {
      cosine[message.start + i] = row;
      band[message.start + i] = message.null_band[i] ?? null;
      if (present) present[message.start + i] = message.present?.[i] ?? row.map(() => null);
      if (share) share[message.start + i] = message.share?.[i] ?? row.map(() => null);
    });
    this.scores.value = {
      concepts: message.concepts,
      cosine,
      share,
      null_band: band,
      emergence: message.emergence,
      meter: message.meter,
      present,
    };
  }
}

export class RunStore {
  readonly #shown = signal<Run | null>(null);
  readonly #pending = signal<Run | null>(null);
  readonly #refused = signal("");

  /** The run on the page. */
  readonly shown: ReadonlySignal<Run | null> = this.#shown;
  /** A run that has begun and has no step yet; until it has one, the previous run stays, dimmed. */
  readonly pending: ReadonlySignal<Run | null> = this.#pending;
  /** The run that was on the page before it. */
  previous: Run | null = null;
  /** The kernel's message about a request that it refused. */
  readonly refused: ReadonlySignal<string> = this.#refused;

  /** The run that the kernel sends messages about: the pending one, else the one shown. */
  get current(): Run | null {
    return this.#pending.value ?? this.#shown.value;
  }

  clearRefusal(): void {
    this.#refused.value = "";
  }

  /** Takes a message. Returns false if it belongs to something that is missing, which the kernel must send again. */
  feed(message: KernelMessage): boolean {
    if (message.type === "run") {
      this.#begin(message);
      return true;
    }
    if (message.type === "error") {
      this.#refused.value = message.message;
      return true;
    }
    // Replies to requests are no part of a run.
    if (message.type === "reply") return true;
    const run = this.#find(message.run);
    if (!run) return false;
    switch (message.type) {
      case "step":
        run.addStep(message);
        if (run === this.#pending.value) this.#show(run);
        return true;
      case "frame":
        return run.addFrame(message.index, message.view, message.images);
      case "scores":
        run.addScores(message);
        return true;
      case "end":
        run.end.value = message;
        // A run that ended before its first step has nothing to show: the previous run stays.
        if (run === this.#pending.value && message.steps === 0) this.#pending.value = null;
        return run.count.value >= message.steps;
    }
  }

  #begin(message: RunMessage): void {
    const run = this.#find(message.run);
    // The message that begins a run may come again, with new notes.
    if (run) {
      run.notes.value = message.notes;
      return;
    }
    this.#refused.value = "";
    const next = new Run(message);
    if (this.#shown.value === null) this.#show(next);
    else this.#pending.value = next;
  }

  #show(run: Run): void {
    this.#pending.value = null;
    // The run that stood in while the model loaded is the same one, and so is a draft: there is nothing to compare.
    const { info } = this.#shown.value ?? {};
    if (!info?.shipped && !info?.draft) this.previous = this.#shown.value;
    this.#shown.value = run;
  }

  #find(id: string): Run | null {
    for (const run of [this.#pending.value, this.#shown.value]) if (run?.info.run === id) return run;
    return null;
  }
}
