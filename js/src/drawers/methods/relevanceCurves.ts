// The relevance of a run's words under the sampling schemes: that which the run has, and more that the kernel finds.

import { listOf, maybe, number, object, type Session, signal, text, whole } from "../../app/coreExports";
import { Working } from "../job";

export const SCHEDULES = ["uniform", "early", "late"] as const;

/** Curves of words: [step][word], words as indices of the run's. */
export interface Curves {
  readonly schedule: string;
  /** The schedule that the run itself had. */
  readonly own_schedule: string;
  readonly words: readonly number[];
  readonly raw: readonly (readonly (number | null)[])[];
  readonly scaled: readonly (readonly (number | null)[])[];
}

const rows = listOf(listOf(maybe(number)));
const CURVES = object({ schedule: text, own_schedule: text, words: listOf(whole), raw: rows, scaled: rows });
const LISTED = object({ curves: listOf(CURVES) });

export class WordRelevance {
  /** In the order of the schemes. */
  readonly found = signal<readonly Curves[]>([]);
  readonly working: Working;
  #run = "";
  #asked = "";
  #next: string[] = [];

  constructor(private readonly session: Session) {
    this.working = new Working(session, (answer) => {
      this.#take(CURVES(answer.content, "relevance"));
      this.#onward();
    });
  }

  get own(): Curves | undefined {
    return this.found.value.find(({ schedule, own_schedule }) => schedule === own_schedule);
  }

  /** Lets go of what is of another run, and asks for what this one has, once it is over. */
  want(): void {
    const { store, connected } = this.session;
    const run = store.shown.value;
    const name = run?.info.run ?? "";
    if (name !== this.#run) {
      this.working.drop();
      this.working.standing.value = null;
      this.#run = name;
      this.#asked = "";
      this.#next = [];
      this.found.value = [];
    }
    if (!connected.value) this.#asked = "";
    if (!run?.end.value || !connected.value || name === this.#asked) return;
    this.#asked = name;
    void this.#list(name);
  }

  async #list(run: string): Promise<void> {
    try {
      const { content } = await this.session.ask({ type: "relevance", run });
      if (run === this.#run) for (const curves of LISTED(content, "relevance").curves) this.#take(curves);
    } catch {
      // The methods above ask after the same run, and say what is wrong.
    }
  }

  /** Asks for the run's own relevance, or, where that is there, for that under every scheme that is not. */
  begin(): void {
    const there = this.found.value.map(({ schedule }) => schedule);
    this.#next = this.own ? SCHEDULES.filter((one) => !there.includes(one)) : [];
    if (this.own) this.#onward();
    else this.#ask("");
  }

  #ask(schedule: string): void {
    this.working.begin({ kind: "relevance", run: this.#run, schedule });
  }

  #onward(): void {
    const next = this.#next.shift();
    if (next) this.#ask(next);
  }

  #take(curves: Curves): void {
    const others = this.found.value.filter(({ schedule }) => schedule !== curves.schedule);
    this.found.value = [...others, curves].sort((a, b) => placeOf(a) - placeOf(b));
    this.#next = this.#next.filter((one) => one !== curves.schedule);
  }
}

function placeOf({ schedule }: Curves): number {
  return (SCHEDULES as readonly string[]).indexOf(schedule);
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
