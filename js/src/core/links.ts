// Links to a step: #step=12&word=moon shows step 12 with the map of "moon". They work in an offline page's address, and in
// any text around a widget: a link there is about the widget before it, or the first one of the page. A frame with an
// offline page takes part, too: the script beside it (diffvis_widget/export/static_output.py) hands over its links.

import { batch } from "@preact/signals";
import type { Session } from "./session";
import { stepIndex } from "./stepNumbers";

export interface Link {
  /** The index of the step; null where the link names none. */
  readonly step: number | null;
  readonly words: readonly string[];
}

/** Reads a link; null for one that is about something else. Several words have a comma between them. */
export function readLink(hash: string): Link | null {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const number = fields.get("step");
  const words = (fields.get("word") ?? "").split(",").filter(Boolean);
  const isStep = number !== null && /^\d{1,6}$/.test(number) && Number(number) > 0;
  if (!isStep && (number !== null || words.length === 0)) return null;
  return { step: isStep ? stepIndex(Number(number)) : null, words };
}

/** Shows what a link names; words that the prompt does not have are left out. */
function showLink(session: Session, { step, words }: Link): void {
  const run = session.store.shown.value;
  if (!run) return;
  batch(() => {
    if (step !== null) session.goTo(step);
    if (words.length === 0) return;
    const texts = words.map((word) => word.toLowerCase());
    session.viewState.lens.value?.remove?.();
    session.viewState.pinned.value = run.info.words.flatMap(({ text, kind }, index) =>
      kind === "word" && texts.includes(text.toLowerCase()) ? [index] : [],
    );
  });
}

/** Follows the links of the page to the widget at `root`. */
export function followLinks(session: Session, root: Element, signal: AbortSignal): void {
  document.addEventListener(
    "click",
    (event) => {
      const target = event.target instanceof Element ? event.target.closest("a[href*='#']") : null;
      const link = target && readLink(target.getAttribute("href")?.split("#")[1] ?? "");
      if (!target || !link || widgetOf(target) !== root) return;
      showLink(session, link);
      root.scrollIntoView({ block: "nearest" });
      event.preventDefault();
      event.stopPropagation();
    },
    { signal, capture: true },
  );
  window.addEventListener(
    "message",
    ({ data, source }) => {
      const link = source === window.parent && typeof data?.diffvisLink === "string" && readLink(data.diffvisLink);
      if (link) showLink(session, link);
    },
    { signal },
  );
  // An offline page's own address; a page that paints is no other.
  if (!session.isOffline && !document.getElementById("dv-run")) return;
  const follow = () => {
    const link = readLink(location.hash);
    if (link) showLink(session, link);
  };
  window.addEventListener("hashchange", follow, { signal });
  follow();
}

function widgetOf(link: Element): Element | undefined {
  const roots = [...document.querySelectorAll(".dv, iframe[data-diffvis]")];
  const isBefore = (root: Element) => (root.compareDocumentPosition(link) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0;
  return roots.findLast(isBefore) ?? roots[0];
}
