// Changing a word's weight by hand: drag its chip up or down, press Alt+Up or Alt+Down, or Alt-click to leave the word
// out. Each change starts a run.

import { useLayoutEffect, useRef } from "preact/hooks";
import type { Word } from "../core/protocol";
import type { Session } from "../core/session";
import type { WordEvents } from "./chooseWord";

export const MAX_WEIGHT = 5;
const PIXELS_PER_TENTH = 5;

interface Drag {
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

/** Event handlers for a word's chip: those of `events`, and those that change its weight. */
export function useWordWeight(session: Session, word: Word, events: WordEvents) {
  const { viewState } = session;
  const drag = useRef<Drag | null>(null);
  const wasDragged = useRef(false);
  const weight = () => wordWeight(session, word);
  const { key } = weight();
  const canWeigh = () => !weight().isFixed;
  const currentFactor = () => weight().factor;
  const setFactor = (factor: number | null) => weight().set(factor);
  const toggle = () => setFactor(currentFactor() === null ? 1 : null);
  const release = () => {
    drag.current = null;
    viewState.draggedWeight.value = null;
  };

  useLayoutEffect(
    () => () => {
      if (drag.current) release();
    },
    [viewState],
  );

  return {
    ...events,
    onPointerDown: (event: PointerEvent) => {
      wasDragged.current = false;
      if (!canWeigh() || event.button !== 0 || event.altKey || event.pointerType === "touch") return;
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      drag.current = { y: event.clientY, factor: currentFactor() ?? 0, moved: false };
    },
    onPointerMove: (event: PointerEvent) => {
      const { current } = drag;
      if (!current) return;
      const up = current.y - event.clientY;
      if (!current.moved && Math.abs(up) < PIXELS_PER_TENTH) return;
      current.moved = true;
      viewState.draggedWeight.value = { word: key, factor: roundToTenth(current.factor + up / PIXELS_PER_TENTH / 10) };
    },
    onPointerUp: () => {
      const { value } = viewState.draggedWeight;
      wasDragged.current = drag.current?.moved ?? false;
      release();
      if (value && wasDragged.current) setFactor(value.factor);
    },
    onPointerCancel: release,
    onClick: (event: MouseEvent) => {
      if (wasDragged.current) wasDragged.current = false;
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
}
