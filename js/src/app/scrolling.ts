// Brings the image into view for a run.

import type { RefObject } from "preact";
import { useRef } from "preact/hooks";
import type { Session } from "../core/session";
import { useReaction } from "../ui/useCanvas";

/** The elements around one that cut off what is outside of them; out of a shadow tree too. */
export function clipping(element: Element): Element[] {
  const around: Element[] = [];
  for (let node: Node | null = element.parentNode; node; node = node.parentNode ?? (node as ShadowRoot).host ?? null) {
    if (node instanceof Element && getComputedStyle(node).overflowY !== "visible") around.push(node);
  }
  return around.filter((node) => node !== document.documentElement && node !== document.body);
}

/** The part of the page, from its top, that all of these elements leave visible. */
export function visiblePart(around: readonly Element[]): readonly [top: number, bottom: number] {
  let [top, bottom] = [0, window.innerHeight];
  for (const element of around) {
    const box = element.getBoundingClientRect();
    top = Math.max(top, box.top + element.clientTop);
    bottom = Math.min(bottom, box.bottom);
  }
  return [top, bottom];
}

/**
 * Scrolls to the widget when a run begins and the image is not wholly visible: whenever the run was started here, and
 * for the first run of a notebook's cell if the widget is visible in part. Other runs leave the page where it is.
 */
export function useRevealOnRun(body: RefObject<HTMLElement | null>, session: Session): void {
  const before = useRef({ requests: session.requestedRuns.peek(), busy: false, first: true });
  useReaction(() => {
    const requests = session.requestedRuns.value;
    const busy = session.busy.value;
    const last = before.current;
    const isFirst = last.first && busy && !last.busy;
    const isOurs = requests > last.requests;
    before.current = { requests, busy, first: last.first && !isFirst };
    if (isOurs || isFirst) reveal(body.current, isOurs);
  }, [session]);
}

function reveal(body: HTMLElement | null, isOurs: boolean): void {
  const frame = body?.querySelector(".dv-frame");
  const root = body?.parentElement;
  if (!frame || !root) return;
  const [top, bottom] = visiblePart(clipping(root));
  const { top: start, bottom: end } = frame.getBoundingClientRect();
  if (end <= start || (start >= top - 1 && end <= bottom + 1)) return;
  const edge = root.getBoundingClientRect().top;
  if (!isOurs && (edge < top || edge > bottom)) return;
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  root.scrollIntoView({ block: "start", behavior: isCalm ? "auto" : "smooth" });
}
