// What is looked at: the page's own state, one per view. The kernel's data is in store.ts.

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import type { Region } from "./mapSampling";
import type { StepMessage, View } from "./protocol";
import type { Run } from "./store";

/** What the stage shows: a picture that the kernel sent, or what the last step changed. */
export type StageView = View | "change";
export type MeterScale = "cosine" | "share";

/** A place in the picture, 0..1 from its left and its top. */
export interface Point {
  readonly u: number;
  readonly v: number;
}

/** What lies on the stage in the place of a word's own map. */
export interface Lens {
  /** Its name, for the legend. */
  readonly name: string;
  /** What lies on the stage in the place of the chosen words: the word after the last one is a map that is of no word. */
  readonly words?: readonly number[] | undefined;
  /** The step with that map in it; the step itself where there is nothing to lay on it. */
  apply(run: Run, step: StepMessage, words: readonly number[]): StepMessage;
  /** What an export of the view must know of the lens; `allSteps` for one of all steps, else of the current one. */
  exported(run: Run, words: readonly number[], allSteps: boolean): LensExport;
}

export interface LensExport {
  readonly layer?: string;
  readonly head?: number | null;
  /** The explaining method whose map takes the place of the words' maps. */
  readonly method?: string;
  /** The number of steps with a map of that method. */
  readonly steps?: number;
}

export interface Mark {
  readonly name: string;
  readonly step: number;
  /** What happens there: "... at step 3". */
  readonly what: string;
}

export class Look {
  readonly step = signal(0);
  /** Live: the page moves to each new step as it arrives. */
  readonly following = signal(true);
  /** Words kept on the stage, in the order in which they were chosen. */
  readonly pinned = signal<readonly number[]>([]);
  readonly hovered = signal<number | null>(null);
  readonly stage = signal<StageView>("prediction");
  readonly opacity = signal(0.65);
  readonly shared = signal(false);
  /** Lines at quantiles around the places where the chosen words look most. */
  readonly contours = signal(false);
  readonly special = signal(false);
  readonly meterScale = signal<MeterScale>("cosine");
  /** The part of the picture whose words are ranked. */
  readonly region = signal<Region | null>(null);
  readonly probe = signal<Point | null>(null);
  readonly lens = signal<Lens | null>(null);
  /** The word, in lower case, whose weight is being dragged. */
  readonly weighed = signal<{ readonly word: string; readonly factor: number } | null>(null);
  /** The run to compare with: its id. */
  readonly against = signal("");
  /** Marks under the film beside those of the concepts. */
  readonly marks = signal<readonly Mark[]>([]);

  /** The words whose heat maps lie on the stage: the one under the pointer, else the lens's, else the chosen ones. */
  readonly words: ReadonlySignal<readonly number[]> = computed(() =>
    this.hovered.value === null ? (this.lens.value?.words ?? this.pinned.value) : [this.hovered.value],
  );

  /** Chooses one word, or lets it go; `add` keeps the others. */
  pin(word: number, add: boolean): void {
    const pinned = this.pinned.value;
    const chosen = pinned.includes(word);
    if (add) this.pinned.value = chosen ? pinned.filter((other) => other !== word) : [...pinned, word];
    else this.pinned.value = chosen && pinned.length === 1 ? [] : [word];
  }

  clear(): void {
    this.pinned.value = [];
    this.hovered.value = null;
    this.region.value = null;
  }

  /** Carries the chosen words over to another run, by their text. */
  carry(from: Run, to: Run): void {
    const taken = new Set<number>();
    const pinned: number[] = [];
    for (const index of this.pinned.value) {
      const { text, encoder } = from.info.words[index] ?? {};
      const next = to.info.words.findIndex(
        (word, i) => !taken.has(i) && word.encoder === encoder && word.text.toLowerCase() === text?.toLowerCase(),
      );
      if (next < 0) continue;
      taken.add(next);
      pinned.push(next);
    }
    this.pinned.value = pinned;
    this.hovered.value = null;
    const stage = this.stage.value;
    if (stage !== "change" && !to.info.views.includes(stage)) this.stage.value = "prediction";
  }
}
