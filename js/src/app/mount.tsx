// Mounts a viewer into an element of any host, and removes it when the host aborts.

import { effect, untracked } from "@preact/signals";
import { render } from "preact";
import { type Context, createContext } from "../core/context";
import type { DrawerSource } from "../core/drawer";
import type { Host } from "../core/host";
import { followLinks } from "../core/links";
import { watchTheme } from "../core/theme";
import { isTouch } from "../gestures/touch";
import { holdEarlyFiles } from "./earlyFiles";
import { handleKey } from "./keys";
import { Viewer } from "./Viewer";

/** `source`: where the drawers come from; without it the view has only those that scripts of the page add. */
export function mount(host: Host, el: HTMLElement, source?: DrawerSource<Context>): void {
  const context = createContext(host, source);
  const root = document.createElement("div");
  root.className = "dv";
  root.tabIndex = -1;
  root.toggleAttribute("data-framed", window.parent !== window);
  // JupyterLab and Notebook handle no keys inside an element with this attribute. They check the focused element itself,
  // too: without the attribute on a button, pressing d twice would delete the cell.
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("focusin", ({ target }) => {
    (target as HTMLElement).dataset.lmSuppressShortcuts = "true";
  });
  root.addEventListener("keydown", (event) => {
    handleKey(event, context);
    // Other hosts listen on outer elements: a key typed here is never one of their shortcuts.
    event.stopPropagation();
  });
  for (const name of ["pointerover", "focusin", "dragenter"])
    root.addEventListener(name, () => void context.drawers.load(context.session), { passive: true });
  holdEarlyFiles(context, root, host.signal);
  const { traits, viewState } = context.session;
  const stopLoading = effect(() => {
    // The cards come with the drawers.
    if (traits._tour.value !== 0 || viewState.tour.value) untracked(() => void context.drawers.load(context.session));
  });
  const attached = new Set<unknown>();
  const stop = effect(() => {
    for (const drawer of context.drawers.drawers) {
      if (attached.has(drawer)) continue;
      attached.add(drawer);
      untracked(() => drawer.attach?.(context, host.signal, root));
    }
  });
  // What a finger has read stays until the next tap, wherever that is.
  document.addEventListener(
    "pointerdown",
    (event) => {
      if (isTouch(event)) viewState.probe.value = null;
    },
    { signal: host.signal, capture: true, passive: true },
  );
  watchTheme(el, host.signal, (theme) => {
    root.dataset.theme = theme;
  });
  // Into the page first: views measure themselves when they are rendered.
  el.append(root);
  followLinks(context.session, root, host.signal);
  render(<Viewer context={context} />, root);
  host.signal.addEventListener("abort", () => {
    stop();
    stopLoading();
    render(null, root);
    root.remove();
  });
}
