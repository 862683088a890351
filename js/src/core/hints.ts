// Hints about gestures, one at a time; each is gone for good once the gesture was used. Where the page may store nothing,
// it is gone for the life of the page.

import { signal } from "@preact/signals";

const isCoarse = matchMedia("(pointer: coarse)").matches;

export const HINTS = {
  tour: "New here? Take the 60-second tour",
  steps: "Drag along the film to see earlier steps",
  region: isCoarse
    ? "Tap the image, or hold and drag, to rank the words there"
    : "Drag over the image to rank the words there",
  edit: isCoarse ? "Hold a word to change its weight or add its map" : "Double-click a word to change it",
} as const;

export type Hint = keyof typeof HINTS;

const KEY = "diffvis_widget.hints";
const NAMES = Object.keys(HINTS) as Hint[];

/** Stands in for the storage that the page may not use. */
const pageOnly = (): { [KEY]?: string } => document.documentElement.dataset as { [KEY]?: string };

function readUsed(): string {
  try {
    return localStorage.getItem(KEY) ?? pageOnly()[KEY] ?? "";
  } catch {
    return pageOnly()[KEY] ?? "";
  }
}

function writeUsed(used: string): void {
  try {
    localStorage.setItem(KEY, used);
  } catch {
    pageOnly()[KEY] = used;
  }
}

export class Hints {
  readonly #used = signal<readonly string[]>(readUsed().split(" "));

  /** The hints that have not been used, in their order. */
  get left(): readonly Hint[] {
    return NAMES.filter((name) => !this.#used.value.includes(name));
  }

  retire(name: Hint): void {
    if (this.#used.peek().includes(name)) return;
    // Another widget on the page may have retired others.
    this.#used.value = [...new Set([...readUsed().split(" "), ...this.#used.peek(), name])];
    writeUsed(this.#used.value.join(" ").trim());
  }
}
