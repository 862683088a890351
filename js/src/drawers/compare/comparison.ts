// Two runs side by side: which one lies beside the one that is shown, and the numbers that the kernel has of the two.

import {
  align,
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

const ANSWER = object({
  align: text,
  steps: listOf(pair(whole)),
  words: listOf(object({ a: maybe(whole), b: maybe(whole), change: text })),
  distance: listOf(maybe(number)),
  threshold: number,
  divergence_step: maybe(whole),
  maps: listOf(listOf(maybe(number))),
  image_difference: maybe(number),
});

export type Numbers = ReturnType<typeof ANSWER>;
export type WordPair = Numbers["words"][number];

export class Comparison {
  readonly a = signal<Run | null>(null);
  readonly numbers = signal<Numbers | null>(null);
  readonly problem = signal("");
  #fetched = "";
  #compared = "";

  constructor(private readonly session: Session) {}

  /** The id of the run beside: the one that was chosen, or given, or the one before. */
  get wanted(): string {
    const { look, store, traits } = this.session;
    const shown = store.shown.value?.info.run;
    return [look.against.value, traits._beside.value, store.before?.info.run].find((id) => id && id !== shown) ?? "";
  }

  /** Sees to it that the run beside is here. */
  wantRun(): void {
    const { store, connected } = this.session;
    const id = this.wanted;
    if (this.a.peek()?.info.run === id) return;
    if (store.before?.info.run === id) this.a.value = store.before;
    else if (id && connected.value && this.#fetched !== id) {
      this.#fetched = id;
      void this.#fetch(id);
    } else if (!id) this.a.value = null;
  }

  async #fetch(id: string): Promise<void> {
    try {
      const { buffers } = await this.session.ask({ type: "packed", run: id });
      const store = new RunStore();
      for (const message of unpack(bytes(buffers[0], "run"))) store.feed(decode(message));
      if (this.wanted === id) this.a.value = store.shown.value;
      this.problem.value = "";
    } catch (error) {
      this.#fetched = "";
      this.problem.value = error instanceof Error ? error.message : String(error);
    }
  }

  /** Asks for the numbers once both runs have ended. */
  wantNumbers(): void {
    const { store, connected } = this.session;
    const [a, b] = [this.a.value, store.shown.value];
    if (!a || !b || !connected.value || a.info.run !== this.wanted) return;
    const key = `${a.info.run} ${b.info.run}`;
    if (key !== this.#compared) this.numbers.value = null;
    if (!b.end.value || key === this.#compared) return;
    this.#compared = key;
    void this.#compare(a.info.run, b.info.run, key);
  }

  async #compare(a: string, b: string, key: string): Promise<void> {
    let [numbers, problem]: [Numbers | null, string] = [null, ""];
    try {
      numbers = ANSWER((await this.session.ask({ type: "compare", a, b })).content, "compare");
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    if (key !== this.#compared) return;
    this.numbers.value = numbers;
    this.problem.value = problem;
  }

  /** The row of the numbers, and the step of A, that belong to a step of B. */
  partner(step: number): readonly [row: number, a: number] {
    const rows = this.numbers.value?.steps ?? [];
    let best = -1;
    rows.forEach(([, b], i) => {
      if (best < 0 || Math.abs(b - step) < Math.abs((rows[best]?.[1] ?? 0) - step)) best = i;
    });
    return [best, rows[best]?.[0] ?? step];
  }

  /** The words of both runs, those that stay side by side, in the order of the prompts. */
  pairs(a: Run, b: Run): readonly WordPair[] {
    const isWord = (run: Run, index: number | null) => index === null || run.info.words[index]?.kind === "word";
    const told = this.numbers.value?.words;
    if (told) return told.filter((one) => isWord(a, one.a) && isWord(b, one.b));
    const [one, two] = [a, b].map((run) => run.info.words.flatMap(({ kind }, i) => (kind === "word" ? [i] : [])));
    if (!one || !two) return [];
    const textOf = (run: Run, places: readonly number[]) => places.map((i) => run.info.words[i]?.text ?? "");
    const found: WordPair[] = [];
    let [i, j] = [0, 0];
    for (const [x, y] of [...align(textOf(a, one), textOf(b, two)), [one.length, two.length] as const]) {
      while (i < x && j < y) found.push({ a: one[i++] ?? null, b: two[j++] ?? null, change: "replaced" });
      while (i < x) found.push({ a: one[i++] ?? null, b: null, change: "removed" });
      while (j < y) found.push({ a: null, b: two[j++] ?? null, change: "added" });
      if (i < one.length && j < two.length) found.push({ a: one[i++] ?? null, b: two[j++] ?? null, change: "same" });
    }
    return found;
  }
}
