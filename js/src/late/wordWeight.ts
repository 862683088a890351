// Changing a word's weight by hand: drag its chip up or down, press Alt+Up or Alt+Down, or Alt-click to leave the word
// out. Each change starts a run.

import type { Context, LateParts, Session, Word } from "../app/coreExports";

export const MAX_WEIGHT = 5;
const PIXELS_PER_TENTH = 5;

interface Drag {
  readonly key: string;
  readonly y: number;
  readonly factor: number;
  /** False until the pointer has moved far enough to be no click. */
  moved: boolean;
}

export const roundToTenth = (factor: number): number => Math.min(MAX_WEIGHT, Math.max(0, Math.round(factor * 10) / 10));

/** The weight of a word and how to change it, which starts a run. */
export function wordWeight(session: Session, word: Word) {
  const { traits, connected } = session;
  const key = word.text.toLowerCase();
  const weight = traits.weights.value[key];
  /** Null where the word is left out. */
  const factor: number | null = weight === undefined ? 1 : weight;
  return {
    key,
    factor,
    isFixed: word.kind !== "word" || !traits._can_run.value || !connected.value,
    set: (next: number | null, draft = false) => {
      if (next === factor) return;
      const { [key]: _, ...others } = traits.weights.value;
      session.set({ weights: next === 1 ? others : { ...others, [key]: next } });
      session.run(draft ? { draft } : {});
    },
  };
}

/** One mouse drags one word at a time. */
let drag: Drag | null = null;
let wasDragged = false;

/** Event handlers for a word's chip: those of `events`, and those that change its weight. */
export const weightEvents: LateParts<Context>["weightEvents"] = (session, word, events) => {
  const { viewState } = session;
  const weight = () => wordWeight(session, word);
  const { key } = weight();
  const canWeigh = () => !weight().isFixed;
  const currentFactor = () => weight().factor;
  const setFactor = (factor: number | null) => weight().set(factor);
  const toggle = () => setFactor(currentFactor() === null ? 1 : null);
  const release = () => {
    drag = null;
    viewState.draggedWeight.value = null;
  };
  return {
    ...events,
    onPointerDown: (event: PointerEvent) => {
      wasDragged = false;
      if (!canWeigh() || event.button !== 0 || event.altKey || event.pointerType === "touch") return;
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      drag = { key, y: event.clientY, factor: currentFactor() ?? 0, moved: false };
    },
    onPointerMove: (event: PointerEvent) => {
      // The chip that is dragged may have gone, with a new run.
      if (drag?.key !== key || event.buttons === 0) return;
      const up = drag.y - event.clientY;
      if (!drag.moved && Math.abs(up) < PIXELS_PER_TENTH) return;
      drag.moved = true;
      viewState.draggedWeight.value = { word: key, factor: roundToTenth(drag.factor + up / PIXELS_PER_TENTH / 10) };
    },
    onPointerUp: () => {
      const { value } = viewState.draggedWeight;
      wasDragged = drag?.moved ?? false;
      release();
      if (value && wasDragged) setFactor(value.factor);
    },
    onPointerCancel: release,
    onClick: (event: MouseEvent) => {
      if (wasDragged) wasDragged = false;
      else if (event.altKey && canWeigh()) toggle();
      else events.onClick(event);
    },
    onKeyDown: (event: KeyboardEvent) => {
      if (!event.altKey || !canWeigh()) return events.onKeyDown(event);
      const change = event.key === "ArrowUp" ? 0.1 : event.key === "ArrowDown" ? -0.1 : 0;
      if (change !== 0) setFactor(roundToTenth((currentFactor() ?? 0) + change));
      else if (event.key === "Delete" || event.key === "Backspace") toggle();
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
  };
};
