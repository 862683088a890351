// The prompt as word chips and, while it is edited, as text; and the settings of the run.

import { useComputed, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { splitPrompt } from "../core/alignWords";
import type { Context } from "../core/context";
import { handleStepKey } from "../gestures/stepKeys";
import { Button } from "../ui/Button";
import { DiceIcon } from "../ui/icons";
import { NumberField } from "../ui/NumberField";
import { TERMS } from "../ui/tip";
import { useReaction } from "../ui/useCanvas";
import { Chips, PlainChips } from "./PromptWords";

/** Random seeds are below this number: short enough to remember. */
const SEEDS = 10_000;

export function PromptBar({ context }: { readonly context: Context }) {
  const { session, problem } = context;
  const { store, traits } = session;
  const input = useRef<HTMLTextAreaElement>(null);
  /** The edited prompt that has not been run; null when there is none. */
  const draft = useSignal<string | null>(null);
  const editing = useSignal(false);

  const run = store.shown.value;
  const prompt = traits.prompt.value;
  const isEdited = draft.value !== null && draft.value !== prompt;
  const canRun = traits._can_run.value;
  const textual = editing.value || isEdited || prompt === "";
  const current = run !== null && store.pending.value === null && run.info.prompt === prompt ? run : null;

  useReaction(() => {
    const typing = editing.value && canRun;
    context.hint.value = typing ? `Enter to run · Esc to ${draft.value === null ? "leave" : "undo"}` : "";
  }, [context, canRun]);

  const start = (values: { readonly seed?: number } = {}) => {
    if (!canRun || !session.connected.value) return;
    const text = (draft.value ?? prompt).trim();
    if (text === "") {
      problem.value = "Write a prompt first: what should the image show?";
      return;
    }
    if (problem.value !== "" && root(input.current)?.querySelector("[aria-invalid=true]")) return;
    problem.value = "";
    context.player.pause();
    session.run({
      prompt: text,
      seed: traits.seed.value,
      steps: traits.steps.value,
      guidance_scale: traits.guidance_scale.value,
      ...values,
    });
    draft.value = null;
    editing.value = false;
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    if (event.key === "Enter") {
      start();
      event.preventDefault();
    } else if (event.key === "Escape") {
      if (!editing.value && draft.value === null) session.viewState.clear();
      draft.value = null;
      editing.value = false;
      event.preventDefault();
    } else if (!textual) {
      // After Enter the focus is still here: arrow keys move along the steps, letters edit the prompt.
      handleStepKey(event, context);
    }
  };

  return (
    <header class="dv-head">
      <div class="dv-prompt" data-text={textual || undefined} data-fixed={!canRun || undefined}>
        <textarea
          ref={input}
          data-testid="prompt-input"
          aria-label="Prompt"
          rows={1}
          dir="auto"
          spellcheck={false}
          autocomplete="off"
          placeholder={canRun ? "Describe an image, then press Enter" : "No prompt"}
          readOnly={!canRun}
          tabIndex={canRun ? 0 : -1}
          value={draft.value ?? prompt}
          onInput={(event) => {
            draft.value = event.currentTarget.value.replace(/\n/g, " ");
            editing.value = true;
            problem.value = "";
          }}
          onFocus={() => {
            editing.value = canRun;
          }}
          onPointerUp={() => {
            editing.value = canRun;
          }}
          onBlur={() => {
            editing.value = false;
            if (draft.value === traits.prompt.value) draft.value = null;
          }}
          onKeyDown={onKeyDown}
        />
        <div class="dv-mirror" dir="auto" aria-hidden="true">
          {`${draft.value ?? prompt} `}
        </div>
        <div class="dv-chips-layer" inert={isEdited}>
          {current ? <Chips context={context} run={current} /> : <PlainChips words={splitPrompt(prompt)} />}
        </div>
      </div>
      <Settings context={context} start={start} />
    </header>
  );
}

function root(element: Element | null): Element | null {
  return element?.closest(".dv") ?? null;
}

/** A setting that a recorded run may lack. */
function numberIn(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}

interface SettingsProps {
  readonly context: Context;
  readonly start: (values?: { readonly seed?: number }) => void;
}

function Settings({ context, start }: SettingsProps) {
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
      <Button
        class="dv-quiet dv-dice"
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
