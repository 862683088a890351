// Work that the kernel does on request and that takes a while: asked for again and again, until the answer says that it
// is over. So a lost message or a reloaded page harms nothing.

import { type Message, maybe, number, object, type Session, signal, text } from "../app/coreExports";

export type Task = { readonly kind: string } & Readonly<Record<string, unknown>>;

export interface Standing {
  readonly state: "asked" | "waiting" | "running" | "done" | "canceled" | "failed";
  /** 0 to 1. */
  readonly progress: number;
  /** Seconds, while it is known. */
  readonly seconds_left: number | null;
  readonly error: string;
}

const ANSWER = object({ state: text, progress: number, seconds_left: maybe(number), error: text });
const ASKED: Standing = { state: "asked", progress: 0, seconds_left: null, error: "" };
const EVERY_MS = 250;
/** After this long a question counts as lost. */
const LOST_MS = 4000;

/** One work at a time, and how it stands. `done` takes the answer of one that came to its end. */
export class Working {
  readonly standing = signal<Standing | null>(null);
  /** What was begun last. */
  readonly task = signal<Task | null>(null);
  #task: Task | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the kernel last replied about this job. */
  #heard = 0;

  constructor(
    private readonly session: Session,
    private readonly done: (answer: Message, task: Task) => void,
  ) {}

  get going(): boolean {
    const state = this.standing.value?.state;
    return state === "asked" || state === "waiting" || state === "running";
  }

  /** Begins a work; one that goes on is stopped. */
  begin(task: Task): void {
    this.drop();
    this.task.value = this.#task = task;
    this.standing.value = ASKED;
    this.#heard = performance.now();
    this.#ask(task);
  }

  /** Stops what goes on. */
  drop(): void {
    clearTimeout(this.#timer);
    const task = this.#task;
    this.#task = null;
    if (!task || !this.going) return;
    this.standing.value = { ...(this.standing.value ?? ASKED), state: "canceled", seconds_left: null };
    this.session.ask({ type: "cancel", task }).catch(() => undefined);
  }

  #ask(task: Task): void {
    clearTimeout(this.#timer);
    if (!this.session.connected.value) {
      this.#end(task, { ...ASKED, state: "failed", error: "The kernel is gone." });
      return;
    }
    this.#timer = setTimeout(() => this.#ask(task), LOST_MS);
    const asked = performance.now();
    this.session
      .ask({ type: "job", task })
      .then((answer) => this.#take(answer, task))
      .catch((error: unknown) => {
        // A request that was lost says nothing when a later one has been answered.
        if (this.#heard <= asked) this.#end(task, { ...ASKED, state: "failed", error: (error as Error).message });
      });
  }

  #take(answer: Message, task: Task): void {
    if (this.#task !== task) return;
    this.#heard = performance.now();
    const standing = ANSWER(answer.content, "job") as Standing;
    if (standing.state === "waiting" || standing.state === "running") {
      this.standing.value = standing;
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#ask(task), EVERY_MS);
      return;
    }
    this.#end(task, standing);
    if (standing.state === "done") this.done(answer, task);
  }

  #end(task: Task, standing: Standing): void {
    if (this.#task !== task) return;
    clearTimeout(this.#timer);
    this.#task = null;
    this.standing.value = standing;
  }
}
