// The comparison of two runs, A and B: B is the shown run, A the one to compare it with.

import {
  alignWords,
  bytes,
  decode,
  listOf,
  maybe,
  number,
  object,
  pair,
  type Run,
  RunStore,
  type Session,
  signal,
  text,
  unpack,
  whole,
} from "../../app/coreExports";

const REPLY = object({
  align: text,
  steps: listOf(pair(whole)),
  words: listOf(object({ a: maybe(whole), b: maybe(whole), change: text })),
  distance: listOf(maybe(number)),
  threshold: number,
  divergence_step: maybe(whole),
  maps: listOf(listOf(maybe(number))),
  image_difference: maybe(number),
});

export type Numbers = ReturnType<typeof REPLY>;
export type WordPair = Numbers["words"][number];

export class Comparison {
  readonly a = signal<Run | null>(null);
  readonly numbers = signal<Numbers | null>(null);
  readonly problem = signal("");
  /** The id of the latest run in the history besides the one shown; empty without any. */
  readonly latestOther = signal("");
  #requestedRun = "";
  #requestedPair = "";

  constructor(private readonly session: Session) {}

  /** The id of A: the run chosen here, else the one chosen in Python, else the previous one, else the latest other one. */
  get runId(): string {
    const { viewState, store, traits } = this.session;
    const shown = store.shown.value?.info.run;
    return (
      [
        viewState.compareWith.value,
        traits._comparison_run.value,
        store.previous?.info.run,
        this.latestOther.value,
      ].find((id) => id && id !== shown) ?? ""
    );
  }

  /** Requests A unless it is here; call it in a reaction. */
  requestRun(): void {
    const { store, connected } = this.session;
    const id = this.runId;
    if (this.a.peek()?.info.run === id) return;
    if (store.previous?.info.run === id) this.a.value = store.previous;
    else if (id && connected.value && this.#requestedRun !== id) {
      this.#requestedRun = id;
      void this.#fetch(id);
    } else if (!id) this.a.value = null;
  }

  async #fetch(id: string): Promise<void> {
    try {
      const { buffers } = await this.session.ask({ type: "packed", run: id });
      const store = new RunStore();
      for (const message of unpack(bytes(buffers[0], "run"))) store.feed(decode(message));
      if (this.runId === id) this.a.value = store.shown.value;
      this.problem.value = "";
    } catch (error) {
      this.#requestedRun = "";
      this.problem.value = error instanceof Error ? error.message : String(error);
    }
  }

  /** Requests the numbers once both runs have ended; call it in a reaction. */
  requestNumbers(): void {
    const { store, connected } = this.session;
    const [a, b] = [this.a.value, store.shown.value];
    if (!a || !b || !connected.value || a.info.run !== this.runId) return;
    const key = `${a.info.run} ${b.info.run}`;
    if (key !== this.#requestedPair) this.numbers.value = null;
    if (!b.end.value || key === this.#requestedPair) return;
    this.#requestedPair = key;
    void this.#compare(a.info.run, b.info.run, key);
  }

  async #compare(a: string, b: string, key: string): Promise<void> {
    let [numbers, problem]: [Numbers | null, string] = [null, ""];
    try {
      numbers = REPLY((await this.session.ask({ type: "compare", a, b })).content, "compare");
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (key !== this.#requestedPair) return;
    this.numbers.value = numbers;
    this.problem.value = problem;
  }

  /** The row of the numbers, and the step of A, for a step of B. */
  partner(step: number): readonly [row: number, a: number] {
    const rows = this.numbers.value?.steps ?? [];
    let best = -1;
    rows.forEach(([, b], i) => {
      if (best < 0 || Math.abs(b - step) < Math.abs((rows[best]?.[1] ?? 0) - step)) best = i;
    });
    return [best, rows[best]?.[0] ?? step];
  }

  /** The aligned words of both runs, in the order of the prompts. */
  pairs(a: Run, b: Run): readonly WordPair[] {
    const isWord = (run: Run, index: number | null) => index === null || run.info.words[index]?.kind === "word";
    const words = this.numbers.value?.words;
    if (words) return words.filter((pair) => isWord(a, pair.a) && isWord(b, pair.b));
    const [wordsA, wordsB] = [a, b].map((run) =>
      run.info.words.flatMap(({ kind }, index) => (kind === "word" ? [index] : [])),
    ) as [number[], number[]];
    const textsOf = (run: Run, indices: readonly number[]) => indices.map((index) => run.info.words[index]?.text ?? "");
    const matches = alignWords(textsOf(a, wordsA), textsOf(b, wordsB));
    const pairs: WordPair[] = [];
    let [i, j] = [0, 0];
    for (const [nextA, nextB] of [...matches, [wordsA.length, wordsB.length] as const]) {
      while (i < nextA && j < nextB) pairs.push({ a: wordsA[i++] ?? null, b: wordsB[j++] ?? null, change: "replaced" });
      while (i < nextA) pairs.push({ a: wordsA[i++] ?? null, b: null, change: "removed" });
      while (j < nextB) pairs.push({ a: null, b: wordsB[j++] ?? null, change: "added" });
      if (i < wordsA.length && j < wordsB.length)
        pairs.push({ a: wordsA[i++] ?? null, b: wordsB[j++] ?? null, change: "same" });
    }
    return pairs;
  }
}
