// Jobs: work that the kernel does on request and that takes a while. The page asks again and again with the same task
// until the reply says that the job is over, so that a lost message or a reloaded page does no harm.

import { type Message, maybe, number, object, type Session, signal, text } from "../app/coreExports";

export type Task = { readonly kind: string } & Readonly<Record<string, unknown>>;

export interface JobStatus {
  readonly state: "asked" | "waiting" | "running" | "done" | "canceled" | "failed";
  /** 0 to 1. */
  readonly progress: number;
  /** Null while it cannot be estimated. */
  readonly seconds_left: number | null;
  readonly error: string;
}

const REPLY = object({ state: text, progress: number, seconds_left: maybe(number), error: text });
const ASKED: JobStatus = { state: "asked", progress: 0, seconds_left: null, error: "" };
const POLL_MS = 250;
/** A request without a reply for this long is repeated. */
const LOST_MS = 4000;

/** Runs one job at a time; `onDone` takes the last reply of a job that succeeded. */
export class Job {
  readonly status = signal<JobStatus | null>(null);
  /** The task that was started last. */
  readonly task = signal<Task | null>(null);
  #activeTask: Task | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the kernel last replied about this job. */
  #lastReply = 0;

  constructor(
    private readonly session: Session,
    private readonly onDone: (reply: Message, task: Task) => void,
    /** How long to wait before the page asks again. */
    private readonly pollMs = POLL_MS,
  ) {}

  get isRunning(): boolean {
    const state = this.status.value?.state;
    return state === "asked" || state === "waiting" || state === "running";
  }

  /** Starts a job, and cancels the one that is running. */
  start(task: Task): void {
    this.cancel();
    this.task.value = this.#activeTask = task;
    this.status.value = ASKED;
    this.#lastReply = performance.now();
    this.#ask(task);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    const task = this.#activeTask;
    this.#activeTask = null;
    if (!task || !this.isRunning) return;
    this.status.value = { ...(this.status.value ?? ASKED), state: "canceled", seconds_left: null };
    this.session.ask({ type: "cancel", task }).catch(() => undefined);
  }

  /** Cancels the job and forgets how the last one ended. */
  reset(): void {
    this.cancel();
    this.status.value = null;
  }

  #ask(task: Task): void {
    clearTimeout(this.#timer);
    if (!this.session.connected.value) {
      this.#end(task, { ...ASKED, state: "failed", error: "The kernel is no longer running." });
      return;
    }
    this.#timer = setTimeout(() => this.#ask(task), LOST_MS);
    const askedAt = performance.now();
    this.session
      .ask({ type: "job", task })
      .then((reply) => this.#take(reply, task))
      .catch((error: unknown) => {
        // The failure of a request does not matter once a later one has been answered.
        if (this.#lastReply <= askedAt) this.#end(task, { ...ASKED, state: "failed", error: (error as Error).message });
      });
  }

  #take(reply: Message, task: Task): void {
    if (this.#activeTask !== task) return;
    this.#lastReply = performance.now();
    const status = REPLY(reply.content, "job") as JobStatus;
    if (status.state === "waiting" || status.state === "running") {
      this.status.value = status;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#ask(task), this.pollMs);
      return;
    }
    this.#end(task, status);
    if (status.state === "done") this.onDone(reply, task);
  }

  #end(task: Task, status: JobStatus): void {
    if (this.#activeTask !== task) return;
    clearTimeout(this.#timer);
    this.#activeTask = null;
    this.status.value = status;
  }
}
