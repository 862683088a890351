// Decision curves of a run: computed by the kernel, which keeps them as long as it keeps the run.

import {
  bytes,
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
import { Job } from "../job";

const CURVE = object({
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
  agreeing: whole,
  images: whole,
});
const REPLY = object({ decisions: listOf(CURVE) });

/** The share of `word` in the final image, by the step from which `to` replaced it. `images`: the final images of the
 *  run's own seed, one for each step of `switch`. */
export type DecisionCurve = Omit<ReturnType<typeof CURVE>, "images"> & { readonly images: readonly Uint8Array[] };

/** The curves with their images, which follow each other in the buffers. */
function withImages(curves: readonly ReturnType<typeof CURVE>[], { buffers }: Message): DecisionCurve[] {
  let next = 0;
  return curves.map((curve) => ({
    ...curve,
    images: Array.from({ length: curve.images }, () => bytes(buffers[next++], "image")),
  }));
}

export const nameOf = ({ word, to }: Pick<DecisionCurve, "word" | "to">) => `${word} → ${to}`;

export class Decisions {
  readonly curves = signal<readonly DecisionCurve[]>([]);
  /** The name of the chosen curve. */
  readonly chosen = signal("");
  readonly problem = signal("");
  readonly job: Job;
  #run = "";

  constructor(private readonly session: Session) {
    this.job = new Job(session, (reply) => this.#add(reply));
  }

  /** The chosen curve, else the newest. */
  get shown(): DecisionCurve | undefined {
    const { curves, chosen } = this;
    return curves.value.find((curve) => nameOf(curve) === chosen.value) ?? curves.value.at(-1);
  }

  /** Asks for the curves of the shown run; call it in a reaction. */
  request(): void {
    const { store, connected } = this.session;
    const run = store.shown.value?.info.run ?? "";
    // The kernel keeps a run, and takes requests about it, once the run has ended.
    if (!connected.value || !store.shown.value?.end.value || run === this.#run) return;
    if (this.#run) this.job.reset();
    this.#run = run;
    this.curves.value = [];
    this.chosen.value = this.problem.value = "";
    void this.#ask(run);
  }

  compute(word: string, to: string, seeds: number): void {
    this.problem.value = "";
    this.job.start({ kind: "decision", run: this.#run, word, to: to.trim(), seeds });
  }

  async #ask(run: string): Promise<void> {
    try {
      const reply = await this.session.ask({ type: "decisions", run });
      const curves = withImages(REPLY(reply.content, "decisions").decisions, reply);
      if (run === this.#run) this.curves.value = curves;
    } catch (error) {
      if (run === this.#run) this.problem.value = error instanceof Error ? error.message : String(error);
    }
  }

  #add(reply: Message): void {
    const [curve] = withImages([CURVE(reply.content, "decision")], reply);
    if (!curve) return;
    this.curves.value = [...this.curves.value.filter((other) => nameOf(other) !== nameOf(curve)), curve];
    this.chosen.value = nameOf(curve);
  }
}

/** The mean share for a replacement at `step`, interpolated between the steps that were computed. */
export function shareAt({ switch: steps, mean }: DecisionCurve, step: number): number | null {
  const next = steps.findIndex((computed) => computed >= step);
  const high = mean[next] ?? null;
  const [from, to] = [steps[next - 1], steps[next]];
  if (to === undefined || to === step || from === undefined) return to === step ? high : null;
  const low = mean[next - 1] ?? null;
  return low === null || high === null ? null : low + ((high - low) * (step - from)) / (to - from);
}

/** The position in `switch` of the last replacement at or before `step`, the first one at least. */
export function frameAt({ switch: steps }: DecisionCurve, step: number): number {
  return Math.max(
    0,
    steps.findLastIndex((computed) => computed <= step + 1e-9),
  );
}

/** The result in words. */
export function sentence({ word, to, steps, decision, interval: [low, high], seeds, agreeing }: DecisionCurve): string {
  if (decision === null)
    return `The meter cannot distinguish the two: images with “${word}” and with “${to}” score alike, so there is no decision step. Try a word for something that looks different.`;
  const agree = seeds > 1 ? ` (${agreeing} of ${seeds} seeds agree within a step)` : "";
  const interval = low === null || high === null ? agree : ` (95 %: ${low.toFixed(1)} to ${high.toFixed(1)})`;
  const caution = seeds === 1 ? " One seed says nothing about other seeds." : "";
  return `“${word}” was decided after ${decision.toFixed(1)} of ${steps} steps${interval}: replacing it with “${to}” before then changes the image, later it does not.${caution}`;
}
