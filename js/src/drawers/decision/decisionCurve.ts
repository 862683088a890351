// When words of a run were decided: asked of the kernel, which keeps what it found as long as it keeps the run.

import {
  listOf,
  type Message,
  maybe,
  number,
  object,
  pair,
  type Session,
  signal,
  text,
  whole,
} from "../../app/coreExports";
import { Working } from "../job";

const DECISION = object({
  word: text,
  to: text,
  steps: whole,
  switch: listOf(whole),
  seeds: whole,
  mean: listOf(maybe(number)),
  band: listOf(pair(maybe(number))),
  shares: listOf(listOf(maybe(number))),
  decision: maybe(number),
  interval: pair(maybe(number)),
});
const ANSWER = object({ decisions: listOf(DECISION) });

/** What finished pictures show, by the step from which on `to` took the place of `word`: the share of `word`. */
export type Decision = ReturnType<typeof DECISION>;

export const nameOf = ({ word, to }: Pick<Decision, "word" | "to">) => `${word} → ${to}`;

export class Decisions {
  readonly found = signal<readonly Decision[]>([]);
  /** The name of the one that is looked at. */
  readonly chosen = signal("");
  readonly problem = signal("");
  readonly working: Working;
  #run = "";

  constructor(private readonly session: Session) {
    this.working = new Working(session, (answer) => this.#take(answer));
  }

  get shown(): Decision | undefined {
    const { found, chosen } = this;
    return found.value.find((one) => nameOf(one) === chosen.value) ?? found.value.at(-1);
  }

  /** Asks what is known of the run that is shown. */
  want(): void {
    const { store, connected } = this.session;
    const run = store.shown.value?.info.run ?? "";
    // A run is kept, and can be asked about, once it has ended.
    if (!connected.value || !store.shown.value?.end.value || run === this.#run) return;
    if (this.#run) {
      this.working.drop();
      this.working.standing.value = null;
    }
    this.#run = run;
    this.found.value = [];
    this.chosen.value = this.problem.value = "";
    void this.#ask(run);
  }

  begin(word: string, to: string, seeds: number): void {
    this.problem.value = "";
    this.working.begin({ kind: "decision", run: this.#run, word, to: to.trim(), seeds });
  }

  async #ask(run: string): Promise<void> {
    try {
      const { decisions } = ANSWER((await this.session.ask({ type: "decisions", run })).content, "decisions");
      if (run === this.#run) this.found.value = decisions;
    } catch (error) {
      if (run === this.#run) this.problem.value = error instanceof Error ? error.message : String(error);
    }
  }

  #take(answer: Message): void {
    const decision = DECISION(answer.content, "decision");
    this.found.value = [...this.found.value.filter((one) => nameOf(one) !== nameOf(decision)), decision];
    this.chosen.value = nameOf(decision);
  }
}

/** The mean share where the word is exchanged at `step`, between the steps that were tried. */
export function shareAt({ switch: steps, mean }: Decision, step: number): number | null {
  const after = steps.findIndex((one) => one >= step);
  const high = mean[after] ?? null;
  const [from, to] = [steps[after - 1], steps[after]];
  if (to === undefined || to === step || from === undefined) return to === step ? high : null;
  const low = mean[after - 1] ?? null;
  return low === null || high === null ? null : low + ((high - low) * (step - from)) / (to - from);
}

/** What was found out, in words. */
export function sentence({ word, to, steps, decision, interval: [low, high], seeds }: Decision): string {
  if (decision === null)
    return `The meter cannot tell the two apart: the pictures with “${word}” and with “${to}” score alike, so no decision can be read. Try a word that looks different.`;
  const sure = low === null || high === null ? "" : ` (95 %: ${low.toFixed(1)} to ${high.toFixed(1)})`;
  const one = seeds === 1 ? " One seed says nothing of others." : "";
  return `“${word}” was decided after ${decision.toFixed(1)} of ${steps} steps${sure}: exchanged for “${to}” before that, it changes the picture; later it does not.${one}`;
}
