// A word's weight, by hand: drag its chip up or down, Alt and the arrows, Alt-click to leave it out. The run repeats.

import type { Context } from "../app/coreExports";

const MOST = 5;
/** Pixels for a tenth. */
const PACE = 5;

const tenths = (factor: number): number => Math.min(MOST, Math.max(0, Math.round(factor * 10) / 10));

export function weighChips({ session }: Context, root: HTMLElement, signal: AbortSignal): void {
  const { traits, store, look } = session;
  let from: { readonly word: string; readonly chip: Element; readonly y: number; readonly factor: number } | null =
    null;
  let dragged = false;

  /** The word of the chip that an event is on, in lower case. */
  const wordAt = ({ target }: Event): string | null => {
    const id = target instanceof Element && target.closest<HTMLElement>(".dv-chip-text")?.dataset.testid;
    const word = id ? store.shown.value?.info.words[Number(id.slice("chip-".length))] : undefined;
    return word?.kind === "word" && traits._can_run.value && session.connected.value ? word.text.toLowerCase() : null;
  };
  const factorOf = (word: string): number | null => {
    const kept = traits.weights.value[word];
    return kept === undefined ? 1 : kept;
  };
  const set = (word: string, factor: number | null) => {
    if (factor === factorOf(word)) return;
    const { [word]: _, ...others } = traits.weights.value;
    session.set({ weights: factor === 1 ? others : { ...others, [word]: factor } });
    session.run({});
  };
  const toggle = (word: string) => set(word, factorOf(word) === null ? 1 : null);
  const on = <E extends Event>(name: string, call: (event: E) => void) =>
    root.addEventListener(name, call as (event: Event) => void, { capture: true, signal });

  on<PointerEvent>("pointerdown", (event) => {
    const word = wordAt(event);
    dragged = false;
    if (word !== null && event.button === 0 && !event.altKey && event.pointerType !== "touch")
      from = { word, chip: event.target as Element, y: event.clientY, factor: factorOf(word) ?? 0 };
  });
  on<PointerEvent>("pointermove", (event) => {
    const up = from ? from.y - event.clientY : 0;
    if (!from || (!dragged && Math.abs(up) < PACE)) return;
    // The click that follows comes to the chip, and is not one.
    if (!dragged) from.chip.setPointerCapture(event.pointerId);
    dragged = true;
    look.weighed.value = { word: from.word, factor: tenths(from.factor + up / PACE / 10) };
  });
  // Text that is selected would be dragged away the next time.
  on("selectstart", (event) => {
    if (from) event.preventDefault();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    on(name, () => {
      const { value } = look.weighed;
      if (value && name === "pointerup") set(value.word, value.factor);
      look.weighed.value = from = null;
    });
  }
  on<MouseEvent>("click", (event) => {
    const word = wordAt(event);
    if (word !== null && event.altKey) toggle(word);
    if (dragged || (word !== null && event.altKey)) event.stopPropagation();
    dragged = false;
  });
  on<KeyboardEvent>("keydown", (event) => {
    const word = event.altKey ? wordAt(event) : null;
    if (word === null) return;
    const by = event.key === "ArrowUp" ? 0.1 : event.key === "ArrowDown" ? -0.1 : 0;
    if (by !== 0) set(word, tenths((factorOf(word) ?? 0) + by));
    else if (event.key === "Delete" || event.key === "Backspace") toggle(word);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
