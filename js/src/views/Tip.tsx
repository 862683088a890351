// The sentence about what is under the pointer or has the focus, for elements that carry one: see ui/tip.ts.

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { usePlaced } from "../ui/placed";

const carrierOf = ({ target }: Event): HTMLElement | null =>
  target instanceof Element ? target.closest<HTMLElement>("[data-tip]") : null;

export function Tip() {
  const box = useRef<HTMLParagraphElement>(null);
  const carrier = useSignal<HTMLElement | null>(null);
  useLayoutEffect(() => {
    const root = box.current?.closest(".dv");
    if (!root) return;
    const controller = new AbortController();
    const listen = (name: string, listener: (event: Event) => void) =>
      root.addEventListener(name, listener, { signal: controller.signal, passive: true });
    // A finger that taps also enters and leaves: what it taps is explained until it taps elsewhere.
    const isTouch = (event: Event) => (event as PointerEvent).pointerType === "touch";
    listen("pointerover", (event) => {
      if (!isTouch(event)) carrier.value = carrierOf(event);
    });
    listen("pointerleave", (event) => {
      if (!isTouch(event)) carrier.value = null;
    });
    listen("pointerdown", (event) => {
      carrier.value = isTouch(event) ? carrierOf(event) : null;
    });
    listen("focusin", (event) => {
      const target = event.target as HTMLElement;
      if (target.matches(":focus-visible")) carrier.value = carrierOf(event);
    });
    listen("focusout", () => {
      carrier.value = null;
    });
    listen("keydown", (event) => {
      if ((event as KeyboardEvent).key === "Escape") carrier.value = null;
    });
    return () => controller.abort();
  }, []);
  usePlaced(box, carrier.value);
  // Screen readers read the carrier's aria-description.
  return (
    <p class="dv-tip" ref={box} hidden={!carrier.value} aria-hidden="true">
      {carrier.value?.dataset.tip}
    </p>
  );
}
