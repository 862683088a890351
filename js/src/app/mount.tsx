// Puts a viewer into an element of any host, and takes it out again without a trace.

import { effect } from "@preact/signals";
import { render } from "preact";
import { type Context, createContext } from "../core/context";
import type { Bundle, Load } from "../core/drawerBundle";
import type { Host } from "../core/host";
import { watchTheme } from "../core/theme";
import { handleKey } from "./keys";
import { Viewer } from "./Viewer";

/** `more`: what opens on request, or what makes it of the script that the kernel sends; without, there is nothing of it. */
export function mount(host: Host, el: HTMLElement, more?: Bundle<Context> | Load<Context>): void {
  const context = createContext(host, more);
  const root = document.createElement("div");
  root.className = "dv";
  root.tabIndex = -1;
  // JupyterLab and Notebook leave keys alone inside an element with this mark. They ask the element with the focus first,
  // and take it for the notebook's unless it has the mark itself: else two d on a button would delete the cell.
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("focusin", ({ target }) => {
    (target as HTMLElement).dataset.lmSuppressShortcuts = "true";
  });
  root.addEventListener("keydown", (event) => {
    handleKey(event, context);
    // Other hosts listen further out: a key typed here is never a shortcut of theirs.
    event.stopPropagation();
  });
  for (const name of ["pointerover", "focusin"])
    root.addEventListener(name, () => void context.more.want(context.session), { passive: true });
  const stop = effect(() => context.more.bundle.value?.install(context, root, host.signal));
  watchTheme(el, host.signal, (theme) => {
    root.dataset.theme = theme;
  });
  render(<Viewer context={context} />, root);
  el.append(root);
  host.signal.addEventListener("abort", () => {
    stop();
    render(null, root);
    root.remove();
  });
}
