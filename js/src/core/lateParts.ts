// Parts of the widget that are used only after a gesture, or with notes. They come in the script with the drawers, so that
// a saved notebook does not store them. There, and until the script is loaded, the widget does without them.

import type { ComponentType, RefObject } from "preact";
import type { Word } from "./protocol";
import type { Session } from "./session";
import type { Run } from "./store";
import type { Vocabulary } from "./vocabulary";

export interface WordPopoverProps<C> {
  readonly context: C;
  readonly run: Run;
  readonly index: number;
  /** The chip of the word. */
  readonly chip: Element | null | undefined;
  readonly close: () => void;
}

export interface SuggestionsProps {
  /** The field in which the prompt is edited. */
  readonly field: HTMLElement | null;
  readonly text: string;
  readonly caret: number;
  readonly vocabulary: Vocabulary;
  readonly change: (text: string, caret: number) => void;
}

/** The events of a button that stands for a word. */
interface ButtonEvents {
  onClick(event: MouseEvent): void;
  onKeyDown(event: KeyboardEvent): void;
}

/** `C` is the context that every view takes, which itself holds these. */
export interface LateParts<C> {
  /** The notes of the run as pins on the filmstrip. */
  readonly Pins: ComponentType<{ readonly context: C }>;
  /** Keeps the stage in view while a drawer below it is read; shows nothing itself. `body` is the element of all views. */
  readonly StickyStage: ComponentType<{ readonly body: RefObject<HTMLElement | null> }>;
  /** Words that the model knows, under the prompt while it is edited. */
  readonly Suggestions: ComponentType<SuggestionsProps>;
  /** The card of a tour or of a note, over all other views. */
  readonly TourCards: ComponentType<{ readonly context: C }>;
  /** What can be done with a word of the prompt. */
  readonly WordPopover: ComponentType<WordPopoverProps<C>>;
  /** The events of a word's chip, and those that change its weight. */
  readonly weightEvents: <E extends ButtonEvents>(session: Session, word: Word, events: E) => E;
}
