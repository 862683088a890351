// The relevance of a run's words under each schedule: curves that the run has, and curves that the kernel computes.

import { listOf, maybe, number, object, type Session, signal, text, whole } from "../../app/coreExports";
import { Job } from "../job";

export const SCHEDULES = ["uniform", "early", "late"] as const;

/** Curves of words: [step][word], for the words with these indices in the run. */
export interface Curves {
  readonly schedule: string;
  /** The schedule of the run itself. */
  readonly own_schedule: string;
  readonly words: readonly number[];
  readonly raw: readonly (readonly (number | null)[])[];
  readonly scaled: readonly (readonly (number | null)[])[];
}

const rows = listOf(listOf(maybe(number)));
const CURVES = object({ schedule: text, own_schedule: text, words: listOf(whole), raw: rows, scaled: rows });
const REPLY = object({ curves: listOf(CURVES) });

export class WordRelevance {
  /** In the order of SCHEDULES. */
  readonly curves = signal<readonly Curves[]>([]);
  readonly job: Job;
  #run = "";
  #requestedRun = "";
  #remaining: string[] = [];

  constructor(private readonly session: Session) {
    this.job = new Job(session, (reply) => {
      this.#add(CURVES(reply.content, "relevance"));
      this.#computeNext();
    });
  }

  /** The curves under the schedule of the run itself. */
  get own(): Curves | undefined {
    return this.curves.value.find(({ schedule, own_schedule }) => schedule === own_schedule);
  }

  /** Requests the curves of the shown run once it has ended; call it in a reaction. */
  request(): void {
    const { store, connected } = this.session;
    const run = store.shown.value;
    const name = run?.info.run ?? "";
    if (name !== this.#run) {
      this.job.reset();
      this.#run = name;
      this.#requestedRun = "";
      this.#remaining = [];
      this.curves.value = [];
    }
    if (!connected.value) this.#requestedRun = "";
    if (!run?.end.value || !connected.value || name === this.#requestedRun) return;
    this.#requestedRun = name;
    void this.#ask(name);
  }

  async #ask(run: string): Promise<void> {
    try {
      const { content } = await this.session.ask({ type: "relevance", run });
      if (run === this.#run) for (const curves of REPLY(content, "relevance").curves) this.#add(curves);
    } catch {
      // The maps' request about the same run shows what is wrong.
    }
  }

  /** Computes the curves of the run itself or, if they are here, those under all other schedules. */
  compute(): void {
    const computed = this.curves.value.map(({ schedule }) => schedule);
    this.#remaining = this.own ? SCHEDULES.filter((schedule) => !computed.includes(schedule)) : [];
    if (this.own) this.#computeNext();
    else this.#start("");
  }

  #start(schedule: string): void {
    this.job.start({ kind: "relevance", run: this.#run, schedule });
  }

  #computeNext(): void {
    const schedule = this.#remaining.shift();
    if (schedule) this.#start(schedule);
  }

  #add(curves: Curves): void {
    const others = this.curves.value.filter(({ schedule }) => schedule !== curves.schedule);
    this.curves.value = [...others, curves].sort((a, b) => orderOf(a) - orderOf(b));
    this.#remaining = this.#remaining.filter((schedule) => schedule !== curves.schedule);
  }
}

function orderOf({ schedule }: Curves): number {
  return (SCHEDULES as readonly string[]).indexOf(schedule);
}

/** The score of a word under a schedule: the sum of its scaled curve. */
export function scoreOf({ scaled }: Curves, column: number): number {
  return scaled.reduce((sum, row) => sum + (row[column] ?? 0), 0);
}

/** The step at a position in the chart, 0..1 from its left. */
export function stepAt(position: number, steps: number): number {
  return Math.min(steps - 1, Math.max(0, Math.floor(position * steps)));
}

/** The greatest value of a chart. */
export function greatest(rows: readonly (readonly (number | null)[])[]): number {
  return Math.max(...rows.flat().map((value) => value ?? 0), 1e-12);
}
