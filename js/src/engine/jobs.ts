// Jobs: work that takes a while, for which the page asks again and again with the same task until it is over.
// The same as diffvis_widget/widget/session/jobs.py.

export type Task = Readonly<Record<string, unknown>>;

export interface JobResult {
  readonly content: object;
  readonly buffers: readonly Uint8Array[];
}

/** Reports the finished share, 0 to 1, and lets messages in. Throws `Canceled` once the job is to stop. */
export type Report = (share: number) => Promise<void>;

export type JobFunction = (report: Report) => Promise<JobResult>;

class Canceled extends Error {}

/** Jobs that may wait or run at a time. */
const WAITING = 32;
/** Ended jobs that are kept until the page asks for them. */
const ENDED = 4;

export class Job {
  state: "waiting" | "running" | "done" | "canceled" | "failed" = "waiting";
  progress = 0;
  error = "";
  result: JobResult = { content: {}, buffers: [] };
  #isCanceled = false;
  #started = 0;

  constructor(private readonly perform: JobFunction) {}

  get isOver(): boolean {
    return this.state !== "waiting" && this.state !== "running";
  }

  get secondsLeft(): number | null {
    if (this.state !== "running" || this.progress < 0.02) return null;
    return ((performance.now() - this.#started) / 1000) * (1 / this.progress - 1);
  }

  cancel(): void {
    this.#isCanceled = true;
    if (this.state === "waiting") this.state = "canceled";
  }

  /** Never rejects: what goes wrong ends in `state` and `error`. `breathe` lets messages in. */
  async run(breathe: () => Promise<void>): Promise<void> {
    this.state = "running";
    this.#started = performance.now();
    try {
      this.result = await this.perform(async (share) => {
        this.progress = Math.min(1, Math.max(this.progress, share));
        await breathe();
        if (this.#isCanceled) throw new Canceled();
      });
      this.progress = 1;
      this.state = "done";
    } catch (error) {
      this.state = error instanceof Canceled ? "canceled" : "failed";
      if (this.state === "failed") this.error = error instanceof Error ? error.message : String(error);
    }
  }
}

export class JobQueue {
  readonly #jobs = new Map<string, Job>();

  /** The job for a task; a job that has ended is returned once and then forgotten. `prepare` throws for a wrong task. */
  ask(task: Task, prepare: (task: Task) => JobFunction): Job {
    const key = JSON.stringify(task);
    const known = this.#jobs.get(key);
    if (known) {
      if (known.isOver) this.#jobs.delete(key);
      return known;
    }
    const job = new Job(prepare(task));
    if ([...this.#jobs.values()].filter((other) => !other.isOver).length >= WAITING)
      throw new Error(`${WAITING} jobs are waiting or running already: wait, or stop some of them`);
    this.#jobs.set(key, job);
    const ended = [...this.#jobs].filter(([, other]) => other.isOver);
    for (const [name] of ended.slice(0, -ENDED)) this.#jobs.delete(name);
    return job;
  }

  cancel(task: Task): void {
    this.#jobs.get(JSON.stringify(task))?.cancel();
  }

  cancelAll(): void {
    for (const job of this.#jobs.values()) job.cancel();
  }

  /** The job that has waited longest. */
  get next(): Job | undefined {
    return [...this.#jobs.values()].find((job) => job.state === "waiting");
  }
}

/** Lets messages in. A timer would do, but browsers delay a timer that a timer has set by 4 ms. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}
