// The relevance of a run's words under the sampling schemes, as the kernel finds it.

import { listOf, type Message, maybe, number, object, type Session, signal, text, whole } from "../shared";
import { Working } from "./works";

export const SCHEDULES = ["uniform", "early", "late"] as const;

/** Curves of words: [step][word], words as indices of the run's. */
export interface Curves {
  readonly schedule: string;
  readonly words: readonly number[];
  readonly raw: readonly (readonly (number | null)[])[];
  readonly scaled: readonly (readonly (number | null)[])[];
}

const rows = listOf(listOf(maybe(number)));
const ANSWER = object({ schedule: text, words: listOf(whole), raw: rows, scaled: rows });

export class WordRelevance {
  /** The run's own first. */
  readonly found = signal<readonly Curves[]>([]);
  readonly working: Working;
  #run = "";
  #next: string[] = [];

  constructor(private readonly session: Session) {
    this.working = new Working(session, (answer) => this.#take(answer));
  }

  /** Lets go of what is of another run. */
  want(): void {
    const run = this.session.store.shown.value?.info.run ?? "";
    if (run === this.#run) return;
    if (this.#run) this.working.drop();
    this.#run = run;
    this.#next = [];
    this.found.value = [];
  }

  /** Asks for the run's own relevance; with `all` also for that under every scheme it did not have. */
  begin(all: boolean): void {
    const there = this.found.value.map(({ schedule }) => schedule);
    this.#next = all ? SCHEDULES.filter((one) => !there.includes(one)) : [];
    if (there.length === 0) this.#ask("");
    else this.#onward();
  }

  #ask(schedule: string): void {
    this.working.begin({ kind: "relevance", run: this.#run, schedule });
  }

  #onward(): void {
    const next = this.#next.shift();
    if (next) this.#ask(next);
  }

  #take(answer: Message): void {
    const curves: Curves = ANSWER(answer.content, "relevance");
    const others = this.found.value.filter(({ schedule }) => schedule !== curves.schedule);
    this.found.value = [...others, curves];
    this.#next = this.#next.filter((one) => one !== curves.schedule);
    this.#onward();
  }
}

/** The sum of a word's scaled curve: the score of the word under a scheme. */
export function scoreOf({ scaled }: Curves, column: number): number {
  return scaled.reduce((sum, row) => sum + (row[column] ?? 0), 0);
}

/** The step under a place in the chart, from its left, 0 to 1. */
export function stepAt(place: number, steps: number): number {
  return Math.min(steps - 1, Math.max(0, Math.floor(place * steps)));
}

/** The upper end of a chart. */
export function highest(rows: readonly (readonly (number | null)[])[]): number {
  return Math.max(...rows.flat().map((one) => one ?? 0), 1e-12);
}
