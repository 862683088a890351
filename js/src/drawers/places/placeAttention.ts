// What the selected place attends to, computed by the kernel. There is one job at a time: the next one, for what is
// selected by then, follows its end. Of a recorded run, a page reads what it holds.

import { type Session, signal } from "../../app/coreExports";
import { Job } from "../job";
import { type Attention, middleOf, readAttention } from "./attention";
import { attentionAt, type Stored, storedOf } from "./stored";

export class PlaceAttention {
  readonly received = signal<Attention | null>(null);
  /** Whether the page does not hold what is requested. */
  readonly isMissing = signal(false);
  readonly job: Job;
  #settledKey = "";
  /** What the page holds of a run. */
  #stored: { readonly run: string; readonly attention: Promise<Stored | null> } | null = null;

  constructor(private readonly session: Session) {
    this.job = new Job(
      session,
      (reply, task) => {
        this.received.value = readAttention(reply, task.run as string, task.step as number);
      },
      40,
    );
  }

  /** Why there is nothing to show; empty while there is. */
  get problem(): string {
    if (this.isMissing.value) return "This page does not hold what places attend to at this step.";
    const status = this.job.status.value;
    return status?.state === "failed" ? status.error : "";
  }

  /** Asks for what the selected place attends to at the step that is shown; call it in a reaction. */
  request(): void {
    const { store, viewState, connected } = this.session;
    const run = store.shown.value;
    const step = run?.nearest(viewState.step.value);
    const region = viewState.region.value;
    if (!connected.value) this.#settledKey = "";
    if (!run || !step || !region || !connected.value || this.job.isRunning) return;
    const position = middleOf(region);
    const key = `${run.info.run} ${step.index} ${position.join(" ")}`;
    if (key === this.#settledKey) return;
    this.#settledKey = key;
    if (this.session.holds(run.info.run)) void this.#read(run.info.run, step.index, position);
    else this.job.start({ kind: "attention", run: run.info.run, step: step.index, position });
  }

  /** What the page holds of the place. */
  async #read(run: string, step: number, position: readonly [y: number, x: number]): Promise<void> {
    if (this.#stored?.run !== run) this.#stored = { run, attention: storedOf(this.session, run).catch(() => null) };
    const stored = await this.#stored.attention;
    this.received.value = stored && attentionAt(stored, run, step, position);
    this.isMissing.value = this.received.value === null;
  }
}
