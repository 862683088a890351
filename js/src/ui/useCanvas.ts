// Canvases that take their size from the layout, and draw again when a signal that they read changes.

import { effect, signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";

export interface Size {
  readonly width: number;
  readonly height: number;
  /** Canvas pixels per CSS pixel. */
  readonly ratio: number;
}

export type Draw = (canvas: HTMLCanvasElement, context: CanvasRenderingContext2D, size: Size) => void;

/**
 * A ref for a canvas that fills its positioned parent. `draw` runs once it has a size and again whenever a signal
 * that it read changes. The parent's size must come from the layout alone, never from the canvas.
 */
export function useCanvas(draw: Draw): { readonly current: HTMLCanvasElement | null } {
  const ref = useRef<HTMLCanvasElement>(null);
  const latest = useRef(draw);
  latest.current = draw;
  useLayoutEffect(() => {
    const canvas = ref.current;
    const context = canvas?.getContext("2d");
    const frame = canvas?.parentElement;
    if (!canvas || !context || !frame) return;
    const size = signal<Size | null>(null);
    const measure = () => {
      const { clientWidth: width, clientHeight: height } = frame;
      const ratio = Math.min(3, window.devicePixelRatio || 1);
      const old = size.peek();
      if (width < 1 || height < 1) return;
      if (old && old.width === width && old.height === height && old.ratio === ratio) return;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      size.value = { width, height, ratio };
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(frame);
    const stop = effect(() => {
      if (size.value) latest.current(canvas, context, size.value);
    });
    return () => {
      observer.disconnect();
      stop();
    };
  }, []);
  return ref;
}

/** Calls `run` now and whenever a signal that it read changes, while the component is mounted. */
export function useReaction(run: () => void, inputs: readonly unknown[]): void {
  useLayoutEffect(() => effect(run), inputs);
}
