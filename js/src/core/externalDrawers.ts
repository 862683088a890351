// Drawers from outside this package. A script in the page adds one to a list in the global scope, before or after the
// widget appears; every widget in the page then offers it:
//
//   (globalThis.diffvisDrawers ??= []).push({
//     name: "steps", label: "Steps", order: 90, needsKernel: false,
//     create: ({ createElement }) => ({
//       View: ({ context }) => createElement("p", null, `${context.session.store.shown.value.length} steps`),
//     }),
//   });
//
// `create` gets what app/coreExports.ts exports, so that the drawer shares the widget's Preact and its signals.

import type { ExternalDrawer } from "./drawer";

const LIST = "diffvisDrawers";
// The same for every copy of this script in the page.
const LISTENERS = Symbol.for("diffvis_widget.drawerListeners");

type List = unknown[] & { [LISTENERS]?: Set<() => void> };

/** The page's list, whose `push` notifies every widget. */
function watchedList(): { readonly list: List; readonly listeners: Set<() => void> } {
  const scope = globalThis as { [LIST]?: List };
  scope[LIST] ??= [];
  const list = scope[LIST];
  const listeners = list[LISTENERS] ?? new Set();
  if (!list[LISTENERS]) {
    Object.defineProperty(list, LISTENERS, { value: listeners });
    list.push = (...drawers) => {
      const length = Array.prototype.push.apply(list, drawers);
      for (const listener of listeners) listener();
      return length;
    };
  }
  return { list, listeners };
}

function isDrawer(value: unknown): boolean {
  const { name, label, order, create } = (value ?? {}) as Record<string, unknown>;
  const isValid = [name, label].every((entry) => typeof entry === "string" && entry !== "");
  return isValid && typeof order === "number" && typeof create === "function";
}

/** Calls back with the page's drawers, now and whenever there is one more, until `stopped` aborts. */
export function watchExternalDrawers<C>(
  callback: (drawers: readonly ExternalDrawer<C>[]) => void,
  stopped: AbortSignal,
): void {
  const { list, listeners } = watchedList();
  const update = () => {
    for (const value of list)
      if (!isDrawer(value)) console.warn("diffvis_widget: a drawer needs a name, a label, an order and create:", value);
    callback(list.filter(isDrawer) as ExternalDrawer<C>[]);
  };
  listeners.add(update);
  stopped.addEventListener("abort", () => listeners.delete(update));
  update();
}
