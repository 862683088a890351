// Cards that point at a place of the widget, one after the other: the tour of the widget, and the notes of a run.

import type { Region } from "./mapSampling";

export interface Card {
  readonly title: string;
  readonly text: string;
  /** A selector of what the card points at, and of what it points at where that is not there. */
  readonly targets: readonly string[];
  /** A region of the image that it points at instead. */
  readonly region?: Region | null;
  /** Shows what the card is about. */
  readonly show?: () => void;
}

export interface Tour {
  readonly cards: readonly Card[];
  readonly at: number;
}
