// The words of a prompt as chips: hover to preview the heat map, click to choose the word, Shift-click to add it.

import { useSignal } from "@preact/signals";
import { type ComponentChildren, Fragment } from "preact";
import { useLayoutEffect } from "preact/hooks";
import { alignWords, directionOf, groupByEncoder } from "../core/alignWords";
import type { Context } from "../core/context";
import type { Word } from "../core/protocol";
import type { Run } from "../core/store";
import { colourOf, nameOf } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { Button, toggle } from "../ui/Button";
import { useRovingFocus } from "../ui/rovingFocus";
import { TERMS, tip } from "../ui/tip";

/** The words of a prompt whose run has not begun. */
export function PlainChips({
  words,
  children,
}: {
  readonly words: readonly string[];
  readonly children?: ComponentChildren;
}) {
  return (
    <div class="dv-chips" dir={directionOf(words.join(""))}>
      {words.map((word, i) => (
        <span class="dv-chip" key={i} data-waiting>
          <span class="dv-chip-text">{word}</span>
        </span>
      ))}
      {children}
    </div>
  );
}

interface ChipsProps {
  readonly context: Context;
  readonly run: Run;
  /** Buttons after the words. */
  readonly children?: ComponentChildren;
}

export function Chips({ context, run, children }: ChipsProps) {
  const { viewState, store } = context.session;
  const previousWords = store.previous?.info.words.map(({ text }) => text);
  const unchanged = new Set(
    previousWords &&
      alignWords(
        previousWords,
        run.info.words.map(({ text }) => text),
      ).map(([, index]) => index),
  );
  const typed = run.info.words.flatMap(({ kind }, index) => (kind === "word" ? [index] : []));
  // Of a new prompt nearly every word is another one: marks tell something only where most words stayed.
  const isEdit =
    previousWords !== undefined && 2 * typed.filter((index) => unchanged.has(index)).length >= typed.length;
  const isExtra = ({ kind }: Word) => kind !== "word" && kind !== "truncated" && kind !== "concept";
  const extra = run.info.words.filter(isExtra).length;
  const shown = groupByEncoder(run.info.words, (word) => viewState.showSpecial.value || !isExtra(word));
  // Without heat maps there is nothing to choose.
  const isFixed = (word: Word) => word.kind === "truncated" || !run.hasMaps;
  const focus = useRovingFocus(shown.filter(({ word }) => !isFixed(word)).length);
  let stop = 0;
  return (
    <div
      class="dv-chips"
      dir={directionOf(run.info.prompt)}
      role="toolbar"
      aria-label="Words of the prompt"
      data-arrows
      onFocusIn={focus.onFocusIn}
      onKeyDown={focus.onKeyDown}
    >
      {run.info.rewritten ? (
        <span class="dv-encoder" data-testid="rewritten" title={run.info.rewritten}>
          “<bdi>{run.info.prompt}</bdi>”, rewritten
        </span>
      ) : null}
      {shown.map(({ word, index, heading }) => (
        <Fragment key={index}>
          {heading ? <span class="dv-encoder">{heading}</span> : null}
          <Chip
            context={context}
            word={word}
            index={index}
            fixed={isFixed(word)}
            changed={isEdit && word.kind === "word" && !unchanged.has(index)}
            tabIndex={isFixed(word) ? -1 : focus.tabIndex(stop++)}
          />
        </Fragment>
      ))}
      {children}
      {context.session.traits._takes_concepts.value ? (
        <Button class="dv-quiet dv-special" data-testid="add-word" title="Show where another word is" onClick={addWord}>
          + a word
        </Button>
      ) : null}
      {extra > 0 ? (
        <Button class="dv-quiet dv-special" dir="ltr" {...tip(TERMS.special)} {...toggle(viewState.showSpecial)}>
          {viewState.showSpecial.value ? `−${extra}` : `+${extra}`}
          <span class="dv-sr"> special tokens</span>
        </Button>
      ) : null}
    </div>
  );
}

/** Goes to the field of the concepts: those that the prompt does not have get a map in the next run. */
function addWord({ currentTarget }: Event) {
  (currentTarget as Element).closest(".dv")?.querySelector<HTMLElement>("[data-testid=add-concept]")?.focus();
}

const WEIGH =
  "Click to see where the word is attended to, double-click to edit it, drag up or down to change its weight (Alt+Up, Alt+Down), Alt-click to leave it out";

interface ChipProps {
  readonly context: Context;
  readonly word: Word;
  readonly index: number;
  readonly fixed: boolean;
  /** Whether the previous run did not have it. */
  readonly changed: boolean;
  readonly tabIndex: 0 | -1;
}

function explain(word: Word): string | undefined {
  if (word.kind === "truncated") return "No effect: the prompt is longer than the text encoder allows.";
  if (word.unknown) return "The model has never seen this word in training.";
  if (word.kind === "padding") return "The padding tokens after the prompt, taken together";
  if (word.kind === "concept") return "Not in the prompt: only its map was read";
  if (word.kind === "template") return "Added to the prompt by the model's template";
  return undefined;
}

function Chip({ context, word, index, fixed, changed, tabIndex }: ChipProps) {
  const { session } = context;
  const { viewState } = session;
  const key = word.text.toLowerCase();
  const dragged = viewState.draggedWeight.value;
  const weights = session.traits.weights.value;
  const factor = dragged?.word === key ? dragged.factor : key in weights ? (weights[key] ?? null) : 1;
  const open = useSignal(false);
  const choosing = wordEvents(viewState, index);
  const events = context.drawers.late.weightEvents?.(session, word, choosing) ?? choosing;
  useLayoutEffect(
    () => () => {
      if (viewState.draggedWeight.peek()?.word === key) viewState.draggedWeight.value = null;
    },
    [viewState, key],
  );
  const pinned = viewState.pinned.value;
  const chosen = pinned.includes(index);
  const isTruncated = word.kind === "truncated";
  const tokens = word.token_texts.map((token) => token.replace(/<\/w>$/, "")).filter((token) => token !== "");
  const isSplit = word.kind === "word" && tokens.length > 1;
  const colour = colourOf(session.store.shown.value?.info.words ?? [], pinned, index);
  const weighed = word.kind === "word" && factor !== 1;
  return (
    <span
      class="dv-chip"
      data-changed={changed || undefined}
      data-word={index}
      data-kind={word.kind}
      data-unknown={word.unknown || undefined}
      data-chosen={chosen || undefined}
      data-hovered={viewState.hovered.value === index || undefined}
      style={colour ? { "--mark": colour } : undefined}
      title={explain(word) ?? (fixed || word.kind !== "word" ? undefined : WEIGH)}
    >
      <Button
        class="dv-chip-text"
        data-stop={fixed ? undefined : true}
        data-testid={`chip-${index}`}
        aria-pressed={chosen}
        disabled={fixed}
        tabIndex={tabIndex}
        {...events}
      >
        {isSplit && open.value ? (
          tokens.map((token, i) => (
            <span class="dv-token" key={i}>
              {token}
            </span>
          ))
        ) : isTruncated || factor === null ? (
          <s>{word.text}</s>
        ) : (
          nameOf(word)
        )}
        {isTruncated ? <span class="dv-sr"> (no effect)</span> : null}
        {word.unknown ? <span class="dv-sr"> (never seen by the model)</span> : null}
        {changed ? <span class="dv-sr"> (changed)</span> : null}
        {weighed ? (
          <span class="dv-weight" dir="ltr">
            {factor === null ? <span class="dv-sr"> (left out)</span> : `×${factor}`}
          </span>
        ) : null}
      </Button>
      {isSplit ? (
        <Button
          class="dv-tokens"
          aria-expanded={open.value}
          aria-label={`The ${tokens.length} tokens of ${word.text}`}
          title={`${tokens.length} tokens: ${tokens.join(" + ")}`}
          onClick={() => {
            open.value = !open.value;
          }}
        >
          {tokens.length}
        </Button>
      ) : null}
    </span>
  );
}
