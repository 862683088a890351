// The words of a prompt as the model reads them. Hover looks, click keeps, shift-click adds.

import { useSignal } from "@preact/signals";
import { Fragment } from "preact";
import { align, byEncoder } from "../core/alignWords";
import type { Context } from "../core/context";
import type { Word } from "../core/protocol";
import type { Run } from "../core/store";
import { colourOf, nameOf } from "../core/wordLabels";
import { wordEvents } from "../gestures/chooseWord";
import { useWordWeight } from "../gestures/dragWordWeight";
import { Button } from "../ui/Button";
import { useArrows } from "../ui/rovingFocus";

/** A prompt whose run has not begun yet. */
export function PlainChips({ words }: { readonly words: readonly string[] }) {
  return (
    <div class="dv-chips" dir="auto">
      {words.map((word, i) => (
        <span class="dv-chip" key={i} data-waiting>
          <span class="dv-chip-text">{word}</span>
        </span>
      ))}
    </div>
  );
}

export function Chips({ context, run }: { readonly context: Context; readonly run: Run }) {
  const { look, store } = context.session;
  const before = store.before?.info.words.map(({ text }) => text);
  const stayed = new Set(
    before &&
      align(
        before,
        run.info.words.map(({ text }) => text),
      ).map(([, index]) => index),
  );
  const isExtra = (word: Word) => word.kind !== "word" && word.kind !== "truncated";
  const extra = run.info.words.filter(isExtra).length;
  const shown = byEncoder(run.info.words, (word) => look.special.value || !isExtra(word));
  // Without maps there is nothing to choose.
  const isFixed = (word: Word) => word.kind === "truncated" || !run.mapped;
  const arrows = useArrows(shown.filter(({ word }) => !isFixed(word)).length);
  let stop = 0;
  return (
    <div
      class="dv-chips"
      dir="auto"
      role="toolbar"
      aria-label="Words of the prompt"
      data-arrows
      onFocusIn={arrows.onFocusIn}
      onKeyDown={arrows.onKeyDown}
    >
      {shown.map(({ word, index, begins }) => (
        <Fragment key={index}>
          {begins ? <span class="dv-encoder">{begins}</span> : null}
          <Chip
            context={context}
            word={word}
            index={index}
            fixed={isFixed(word)}
            changed={before !== undefined && word.kind === "word" && !stayed.has(index)}
            tabIndex={isFixed(word) ? -1 : arrows.tabIndex(stop++)}
          />
        </Fragment>
      ))}
      {extra > 0 ? (
        <Button
          class="dv-quiet dv-special"
          aria-pressed={look.special.value}
          title="Tokens that the tokenizer adds around the prompt"
          onClick={() => {
            look.special.value = !look.special.value;
          }}
        >
          {look.special.value ? `−${extra}` : `+${extra}`}
          <span class="dv-sr"> special tokens</span>
        </Button>
      ) : null}
    </div>
  );
}

const WEIGH = "Drag up or down to strengthen or weaken it (Alt+Up, Alt+Down); Alt-click leaves it out";

interface ChipProps {
  readonly context: Context;
  readonly word: Word;
  readonly index: number;
  readonly fixed: boolean;
  /** The run before did not have it. */
  readonly changed: boolean;
  readonly tabIndex: 0 | -1;
}

function explain(word: Word): string | undefined {
  if (word.kind === "truncated") return "Cut off, and without effect: the text encoder reads only so many tokens.";
  if (word.unknown) return "The model never saw this word while it learned.";
  if (word.kind === "padding") return "Empty places after the prompt, all together";
  if (word.kind === "template") return "Added around the prompt by the model's template";
  return undefined;
}

function Chip({ context, word, index, fixed, changed, tabIndex }: ChipProps) {
  const { session } = context;
  const { look } = session;
  const key = word.text.toLowerCase();
  const dragged = look.weighed.value;
  const weights = session.traits.weights.value;
  const factor = dragged?.word === key ? dragged.factor : key in weights ? (weights[key] ?? null) : 1;
  const open = useSignal(false);
  const events = useWordWeight(session, word, wordEvents(look, index));
  const pinned = look.pinned.value;
  const chosen = pinned.includes(index);
  const cut = word.kind === "truncated";
  const pieces = word.token_texts.map((piece) => piece.replace(/<\/w>$/, "")).filter((piece) => piece !== "");
  const divided = word.kind === "word" && pieces.length > 1;
  const colour = colourOf(pinned, index);
  const weighed = word.kind === "word" && factor !== 1;
  return (
    <span
      class="dv-chip"
      data-changed={changed || undefined}
      data-kind={word.kind}
      data-unknown={word.unknown || undefined}
      data-chosen={chosen || undefined}
      data-hovered={look.hovered.value === index || undefined}
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
        {divided && open.value ? (
          pieces.map((piece, i) => (
            <span class="dv-piece" key={i}>
              {piece}
            </span>
          ))
        ) : cut || factor === null ? (
          <s>{word.text}</s>
        ) : (
          nameOf(word)
        )}
        {cut ? <span class="dv-sr"> (cut off, no effect)</span> : null}
        {word.unknown ? <span class="dv-sr"> (unknown to the model)</span> : null}
        {changed ? <span class="dv-sr"> (changed)</span> : null}
        {weighed ? (
          <span class="dv-weight">{factor === null ? <span class="dv-sr"> (left out)</span> : `×${factor}`}</span>
        ) : null}
      </Button>
      {divided ? (
        <Button
          class="dv-pieces"
          aria-expanded={open.value}
          aria-label={`The ${pieces.length} tokens of ${word.text}`}
          title={`${pieces.length} tokens: ${pieces.join(" + ")}`}
          onClick={() => {
            open.value = !open.value;
          }}
        >
          {pieces.length}
        </Button>
      ) : null}
    </span>
  );
}
