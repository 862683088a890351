// What is on the stage, as the kernel's exports take it.

import { cells, type Region, type Run, type Session } from "../../app/coreExports";

/** The settings of a figure: the page's side of `ViewOptions` in diffvis_widget/export/view_options.py. */
export interface ExportedView {
  readonly step: number;
  /** Words by their text where that is unique, else by their index. */
  readonly words: readonly (string | number)[];
  readonly view: string;
  readonly layer: string | null;
  readonly head: number | null;
  /** Null for the kernel's default: refined maps where the run has them. */
  readonly map_kind: string | null;
  /** The explain method whose map replaces the words' maps. */
  readonly saliency: string | null;
  readonly opacity: number;
  readonly contours: boolean;
  readonly shared_scale: boolean;
  /** Left, top, right and bottom, 0..1. */
  readonly region: readonly number[] | null;
}

/**
 * The current view; `allSteps` for a filmstrip or an animation. Null while there is no step.
 *
 * Leaves out what is not part of the image: the word and the position under the pointer, the scale of the meters, which
 * chips are shown, and the run to compare with. The settings of the run belong to the run, not to the view.
 */
export function exportedView({ viewState, store }: Session, allSteps = false): ExportedView | null {
  const run = store.shown.value;
  const step = run?.nearest(viewState.step.value);
  if (!run || !step) return null;
  const pinned = viewState.pinned.value;
  const { method, layer, head } = viewState.lens.value?.exported(run, pinned, allSteps) ?? {};
  const region = viewState.region.value;
  return {
    step: step.index,
    words: method ? [] : pinned.map((word) => wordKey(run, word)),
    view: viewState.stage.value,
    layer: layer ?? null,
    head: head ?? null,
    map_kind: viewState.mapKind.value === "refined" ? null : viewState.mapKind.value,
    saliency: method ?? null,
    opacity: viewState.opacity.value,
    contours: viewState.contours.value,
    shared_scale: viewState.sharedScale.value,
    region: region && cellCentres(run, region),
  };
}

/** The centres of the first and the last cell that a region touches: few digits, and the same cells. */
function cellCentres({ info }: Run, { u0, v0, u1, v1 }: Region): number[] {
  const [rows, columns] = info.grid;
  const [left, right] = cells(u0, u1, columns);
  const [top, bottom] = cells(v0, v1, rows);
  const centre = (cell: number, count: number) => Number(((cell + 0.5) / count).toFixed(4));
  return [centre(left, columns), centre(top, rows), centre(right, columns), centre(bottom, rows)];
}

function wordKey({ info }: Run, index: number): string | number {
  const word = info.words[index];
  const lowered = word?.text.toLowerCase();
  const isUnique = info.words.filter(({ text }) => text.toLowerCase() === lowered).length === 1;
  return word?.kind === "word" && isUnique ? word.text : index;
}
