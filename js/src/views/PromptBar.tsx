// The prompt as word chips and, while it is edited, as text; below it the settings of the run.

import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { rangesIn } from "../core/alignWords";
import type { Context } from "../core/context";
import { splitPrompt } from "../core/splitWords";
import { handleStepKey } from "../gestures/stepKeys";
import { isTouch, useHold } from "../gestures/touch";
import { Button } from "../ui/Button";
import { AdjustIcon, PencilIcon } from "../ui/icons";
import { useReaction } from "../ui/useCanvas";
import { Chips, PlainChips } from "./PromptWords";
import { RunSettings } from "./RunSettings";

export function PromptBar({ context }: { readonly context: Context }) {
  const { session, problem, drawers } = context;
  const { store, traits, viewState } = session;
  const { Suggestions, WordPopover } = drawers.late;
  const input = useRef<HTMLTextAreaElement>(null);
  /** The edited prompt that has not been run; null when there is none. */
  const draft = useSignal<string | null>(null);
  const editing = useSignal(false);
  const caret = useSignal(0);
  /** The word whose popover is open. */
  const opened = useSignal<number | null>(null);

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

  /** Shows the prompt as text, with a word of it selected or the caret at its end. */
  const edit = (index?: number) => {
    const field = input.current;
    if (!field || !canRun) return;
    const words = current?.info.words ?? [];
    const encoder = words[index ?? -1]?.encoder;
    const ranges = rangesIn(
      prompt,
      words.map((word) =>
        word.encoder === encoder && (word.kind === "word" || word.kind === "truncated") ? word.text : "",
      ),
    );
    const [from, to] = ranges[index ?? -1] ?? [field.value.length, field.value.length];
    opened.value = null;
    field.focus();
    field.setSelectionRange(from, to);
    caret.value = to;
    editing.value = true;
  };

  const hasPopover = drawers.hasLate(session);
  const wasHeld = useRef(false);
  const hold = useHold((event) => {
    const index = wordUnder(event);
    if (index === null || !current) return;
    wasHeld.current = true;
    if (hasPopover) opened.value = index;
    else viewState.pin(index, true);
  });

  const vocabulary = traits._vocabulary.value;
  const text = draft.value ?? prompt;
  const offersWords = editing.value && canRun && Object.keys(vocabulary).length > 0;
  const chosenWord = viewState.pinned.value.findLast((index) => current?.info.words[index]?.kind === "word");

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

  const tools = (
    <>
      {canRun && prompt !== "" ? (
        <Button
          class="dv-quiet dv-tool"
          data-testid="edit-prompt"
          aria-label="Edit the prompt"
          title="Edit the prompt: or double-click a word, or type on it"
          onClick={() => edit()}
        >
          <PencilIcon />
        </Button>
      ) : null}
      {prompt !== "" && hasPopover ? (
        <Button
          class="dv-quiet dv-tool"
          data-testid="adjust-word"
          aria-label="Weight and map of the selected word"
          aria-expanded={opened.value !== null}
          title={
            chosenWord === undefined
              ? "Select a word to change its weight"
              : "Weight and map of the selected word (right-click or hold a word)"
          }
          disabled={chosenWord === undefined}
          onClick={() => {
            opened.value = opened.value === null ? (chosenWord ?? null) : null;
          }}
        >
          <AdjustIcon />
        </Button>
      ) : null}
    </>
  );

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
            caret.value = event.currentTarget.selectionEnd;
            editing.value = true;
            problem.value = "";
          }}
          onFocus={() => {
            editing.value = canRun;
          }}
          onPointerUp={() => {
            editing.value = canRun;
          }}
          onSelect={(event) => {
            caret.value = event.currentTarget.selectionEnd;
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
        {/* biome-ignore lint/a11y/noStaticElementInteractions: these add to what the chips inside do */}
        <div
          class="dv-chips-layer"
          inert={isEdited}
          onPointerDown={(event) => {
            wasHeld.current = false;
            if (isTouch(event) && wordUnder(event) !== null) hold.down(event);
          }}
          onPointerMove={hold.move}
          onPointerUp={hold.up}
          onPointerCancel={hold.end}
          onClickCapture={(event) => {
            // The click that ends a hold chooses nothing.
            if (wasHeld.current) event.stopPropagation();
            wasHeld.current = false;
          }}
          onDblClick={(event) => {
            const index = wordUnder(event);
            if (index !== null) edit(index);
          }}
          onContextMenu={(event) => {
            const index = wordUnder(event);
            if (index === null || !current || !hasPopover) return;
            hold.end();
            opened.value = index;
            event.preventDefault();
          }}
          onKeyDown={(event) => {
            const index = wordUnder(event);
            const types = [...event.key].length === 1 && event.key !== " ";
            if (index === null || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
            // The key goes on to the field, where it replaces the word.
            if (types || event.key === "Backspace" || event.key === "Delete") edit(index);
          }}
        >
          {current ? (
            <Chips context={context} run={current}>
              {tools}
            </Chips>
          ) : (
            <PlainChips words={splitPrompt(prompt)}>{tools}</PlainChips>
          )}
        </div>
      </div>
      {Suggestions && offersWords ? (
        <Suggestions
          field={input.current}
          text={text}
          caret={caret.value}
          vocabulary={vocabulary}
          change={(next, at) => {
            draft.value = next;
            caret.value = at;
            problem.value = "";
            // The field has the new text after the next rendering.
            requestAnimationFrame(() => input.current?.setSelectionRange(at, at));
          }}
        />
      ) : null}
      {WordPopover && opened.value !== null && current ? (
        <WordPopover
          context={context}
          run={current}
          index={opened.value}
          chip={root(input.current)?.querySelector(`[data-word="${opened.value}"]`)}
          close={() => {
            opened.value = null;
          }}
        />
      ) : null}
      <RunSettings context={context} start={start} />
    </header>
  );
}

/** The index of the word of the chip that an event is about. */
function wordUnder({ target }: Event): number | null {
  const word = target instanceof Element ? target.closest<HTMLElement>("[data-word]")?.dataset.word : undefined;
  return word === undefined ? null : Number(word);
}

function root(element: Element | null): Element | null {
  return element?.closest(".dv") ?? null;
}
