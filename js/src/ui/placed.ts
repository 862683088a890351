// Boxes that explain something on the page: beside it, and inside the widget.

import { useLayoutEffect } from "preact/hooks";

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

const GAP = 8;

/** Where a box goes: below what it explains, above where there is no room below, inside `frame`, centred if it can be. */
export function placeBeside(
  size: { readonly width: number; readonly height: number },
  target: Box,
  frame: Box,
): { readonly left: number; readonly top: number } {
  const left = target.left + target.width / 2 - size.width / 2;
  const below = target.top + target.height + GAP;
  const above = target.top - GAP - size.height;
  const fitsBelow = below + size.height <= frame.top + frame.height;
  const top = fitsBelow || above < frame.top ? below : above;
  return {
    left: Math.max(frame.left, Math.min(left, frame.left + frame.width - size.width)),
    // What fits neither below nor above covers what it explains.
    top: Math.max(frame.top, Math.min(top, frame.top + frame.height - size.height)),
  };
}

/** Keeps an absolutely positioned box beside `target` while the widget changes its size. */
export function usePlaced(box: { readonly current: HTMLElement | null }, target: Element | null | undefined): void {
  useLayoutEffect(() => {
    const element = box.current;
    const frame = element?.offsetParent;
    if (!element || !frame || !target) return;
    const place = () => {
      const origin = frame.getBoundingClientRect();
      const body = (element.closest(".dv-body") ?? frame).getBoundingClientRect();
      const { left, top } = placeBeside(element.getBoundingClientRect(), target.getBoundingClientRect(), body);
      element.style.left = `${left - origin.left}px`;
      element.style.top = `${top - origin.top}px`;
    };
    place();
    const observer = new ResizeObserver(place);
    for (const observed of [frame, element, target]) observer.observe(observed);
    return () => observer.disconnect();
  });
}
