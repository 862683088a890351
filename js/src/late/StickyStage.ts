// Keeps the image in view: the stage stays while a drawer below it is read.

import { clipping, useLayoutEffect, visiblePart } from "../app/coreExports";

/**
 * Shifts the stage down while its top would be scrolled out of view. In a notebook an element around the output keeps
 * `position: sticky` from doing so; where that works, the shift is 0.
 */
export function StickyStage({ body }: { readonly body: { readonly current: HTMLElement | null } }): null {
  useLayoutEffect(() => {
    const element = body.current;
    if (!element) return;
    const around = clipping(element);
    // A drawer that has just been opened must not lie below the stage: the stage comes down to its place in the page.
    const line = element.querySelector(".dv-line");
    if (line && line.getBoundingClientRect().bottom < visiblePart(around)[0]) line.scrollIntoView({ block: "start" });
    let shift = 0;
    const follow = () => {
      const look = element.querySelector<HTMLElement>(".dv-look");
      const stage = element.querySelector<HTMLElement>(".dv-stage");
      const film = element.querySelector<HTMLElement>(".dv-time");
      // Beside the stage, a drawer needs no room below it.
      const isStuck = [look, stage].some((part) => part && getComputedStyle(part).position === "sticky");
      let next = 0;
      if (isStuck && stage && film) {
        const [top] = visiblePart(around);
        const end = element.getBoundingClientRect().bottom - (film.getBoundingClientRect().bottom - shift);
        next = Math.max(0, Math.min(top - (stage.getBoundingClientRect().top - shift), end));
      }
      if (Math.abs(next - shift) < 0.5) return;
      shift = next;
      element.style.setProperty("--shift", `${shift}px`);
    };
    const listening = new AbortController();
    window.addEventListener("scroll", follow, { capture: true, passive: true, signal: listening.signal });
    const observer = new ResizeObserver(follow);
    observer.observe(element);
    return () => {
      listening.abort();
      observer.disconnect();
      element.style.removeProperty("--shift");
    };
  }, [body]);
  return null;
}
