// What the user looks at: the page's own state, one per view. The kernel's data is in store.ts.

import { computed, type ReadonlySignal, signal } from "@preact/signals";
import type { MapKind } from "./mapKind";
import type { Region } from "./mapSampling";
import type { StepMessage, View } from "./protocol";
import type { Run } from "./store";
import type { Tour } from "./tour";

/** What the stage shows: an image from the kernel, or what the step changed. */
export type StageView = View | "change";
export type MeterScale = "cosine" | "share";

/** A point in the image, 0..1 from its left and its top. */
export interface Point {
  readonly u: number;
  readonly v: number;
}

/** Replaces the heat maps on the stage: by a layer's map, or by an explain method's. */
export interface Lens {
  /** Its name, for the legend. */
  readonly name: string;
  /** Indices to show instead of the chosen words; the index after the last word stands for a map of no word. */
  readonly words?: readonly number[] | undefined;
  /** The step with its maps replaced; the step itself if the lens has no map for it. */
  apply(run: Run, step: StepMessage, words: readonly number[]): StepMessage;
  /** What an export of the view needs to know; `allSteps` for an export of all steps. */
  exported(run: Run, words: readonly number[], allSteps: boolean): LensExport;
  /** Takes it off the stage, for a lens that stays there after its drawer has closed. */
  remove?(): void;
}

export interface LensExport {
  readonly layer?: string;
  readonly head?: number | null;
  /** The explain method whose map replaces the words' maps. */
  readonly method?: string;
  /** The number of steps with a map of that method. */
  readonly steps?: number;
}

export interface Mark {
  readonly name: string;
  readonly step: number;
  /** What happens at the step, as in "red emerges". */
  readonly what: string;
}

export class ViewState {
  readonly step = signal(0);
  /** Whether the page moves to each new step as it arrives. */
  readonly following = signal(true);
  /** The chosen words, in the order of their choice. */
  readonly pinned = signal<readonly number[]>([]);
  readonly hovered = signal<number | null>(null);
  readonly stage = signal<StageView>("prediction");
  readonly opacity = signal(0.65);
  readonly sharedScale = signal(false);
  /** Which heat maps are shown, where a run has both kinds. */
  readonly mapKind = signal<MapKind>("refined");
  /** Whether a contour line surrounds the upper half of the colours of each heat map. */
  readonly contours = signal(true);
  /** Whether the image is labelled with the words of the prompt while no word is chosen. */
  readonly labels = signal(true);
  readonly showSpecial = signal(false);
  readonly meterScale = signal<MeterScale>("cosine");
  /** The region of the image for which words are ranked. */
  readonly region = signal<Region | null>(null);
  readonly probe = signal<Point | null>(null);
  readonly lens = signal<Lens | null>(null);
  /** The word, in lower case, whose weight is being dragged. */
  readonly draggedWeight = signal<{ readonly word: string; readonly factor: number } | null>(null);
  /** The id of the run to compare with. */
  readonly compareWith = signal("");
  /** Marks under the filmstrip besides those of the concepts. */
  readonly marks = signal<readonly Mark[]>([]);
  /** The cards that are shown over the widget. */
  readonly tour = signal<Tour | null>(null);

  /** The words whose heat maps are on the stage: the one under the pointer, else the lens's, else the chosen ones. */
  readonly words: ReadonlySignal<readonly number[]> = computed(() =>
    this.hovered.value === null ? (this.lens.value?.words ?? this.pinned.value) : [this.hovered.value],
  );

  /** Whether the labels are on the stage now: no word's heat map is, and the pointer does not read the image. */
  readonly isLabelled: ReadonlySignal<boolean> = computed(
    () =>
      this.labels.value &&
      this.words.value.length === 0 &&
      this.region.value === null &&
      this.probe.value === null &&
      (this.stage.value === "prediction" || this.stage.value === "latents"),
  );

  /** Chooses a word, or releases it; with `add` the other words stay chosen. A map of no word leaves the stage to it. */
  pin(word: number, add: boolean): void {
    const pinned = this.pinned.value;
    const chosen = pinned.includes(word);
    const lens = this.lens.value;
    if (lens?.words && lens.remove) {
      lens.remove();
      if (!add) this.pinned.value = [word];
      else if (!chosen) this.pinned.value = [...pinned, word];
    } else if (add) this.pinned.value = chosen ? pinned.filter((other) => other !== word) : [...pinned, word];
    else this.pinned.value = chosen && pinned.length === 1 ? [] : [word];
  }

  clear(): void {
    this.pinned.value = [];
    this.hovered.value = null;
    this.region.value = null;
    this.lens.value?.remove?.();
  }

  /** Carries the choice of words over to another run, by their texts. */
  carry(from: Run, to: Run): void {
    const used = new Set<number>();
    const pinned: number[] = [];
    for (const index of this.pinned.value) {
      const { text, encoder } = from.info.words[index] ?? {};
      const next = to.info.words.findIndex(
        (word, i) => !used.has(i) && word.encoder === encoder && word.text.toLowerCase() === text?.toLowerCase(),
      );
      if (next < 0) continue;
      used.add(next);
      pinned.push(next);
    }
    this.pinned.value = pinned;
    this.hovered.value = null;
    const stage = this.stage.value;
    if (stage !== "change" && !to.info.views.includes(stage)) this.stage.value = "prediction";
  }
}
