// The settings of the next run, and the button that starts or stops a run.

import { useComputed } from "@preact/signals";
import type { Context } from "../core/context";
import { Button } from "../ui/Button";
import { DiceIcon } from "../ui/icons";
import { NumberField } from "../ui/NumberField";
import { TERMS } from "../ui/tip";

/** Random seeds are below this number: short enough to remember. */
const SEEDS = 10_000;

/** A setting that a recorded run may lack. */
function numberIn(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

interface Props {
  readonly context: Context;
  readonly start: (values?: { readonly seed?: number }) => void;
}

export function RunSettings({ context, start }: Props) {
  const { session } = context;
  const { traits, status, busy, connected } = session;
  const canRun = useComputed(() => traits._can_run.value && connected.value);
  const stoppable = busy.value;
  const fixed = !canRun.value;
  const current = session.store.current?.info;
  const numberOf = (trait: "seed" | "steps" | "guidance_scale") => ({
    value: numberIn(traits[trait].value),
    change: (value: number) => session.set({ [trait]: value }),
    problem: context.problem,
  });
  return (
    <div class="dv-settings">
      {current?.external ? (
        <span
          class="dv-external"
          data-testid="external"
          title={`Your own code made this run, and these are its settings${
            current.seed === null ? "; its seed is not known" : ""
          }. Run starts a run of the widget with them.`}
        >
          your call
        </span>
      ) : null}
      <NumberField
        {...numberOf("seed")}
        before="seed"
        meaning={TERMS.seed}
        whole
        min={0}
        max={2 ** 53 - 1}
        fixed={fixed}
        start={start}
      />
      {/* Where nothing can be run, the settings are those of the run. */}
      <Button
        class="dv-quiet dv-dice"
        hidden={!traits._can_run.value}
        title="New random seed and run"
        aria-label="New random seed and run"
        disabled={fixed}
        onClick={() => {
          const seed = Math.floor(Math.random() * SEEDS);
          session.set({ seed });
          start({ seed });
        }}
      >
        <DiceIcon />
      </Button>
      <NumberField
        {...numberOf("steps")}
        after="steps"
        meaning={TERMS.steps}
        whole
        min={1}
        max={1000}
        fixed={fixed}
        start={start}
      />
      {traits.guidance_scale.value === null ? null : (
        <NumberField
          {...numberOf("guidance_scale")}
          before="guidance"
          meaning={TERMS.guidance}
          min={0}
          max={1000}
          fixed={fixed}
          start={start}
        />
      )}
      {traits._can_run.value ? (
        <Button
          class="dv-run"
          data-stop-run={stoppable || undefined}
          data-testid={stoppable ? "stop" : "run"}
          disabled={fixed || status.value === "stopping"}
          onClick={() => (stoppable ? session.stop() : start())}
        >
          {stoppable ? "Stop" : "Run"}
        </Button>
      ) : null}
    </div>
  );
}
