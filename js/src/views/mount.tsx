// Puts a viewer into an element of any host, and takes it out again without a trace.

import { render } from "preact";
import type { Host } from "../core/host";
import type { Load, Views } from "../core/more";
import { watchTheme } from "../core/theme";
import { createContext } from "./context";
import { handleKey } from "./keys";
import { Viewer } from "./Viewer";

/** `more`: the views that open on request, or what makes them of the script that the kernel sends; without, there are none. */
export function mount(host: Host, el: HTMLElement, more?: Views | Load): void {
  const context = createContext(host, more);
  const root = document.createElement("div");
  root.className = "dv";
  root.tabIndex = -1;
  // JupyterLab and Notebook leave keys alone inside an element with this mark.
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("keydown", (event) => {
    handleKey(event, context);
    // Other hosts listen further out: a key typed here is never a shortcut of theirs.
    event.stopPropagation();
  });
  watchTheme(el, host.signal, (theme) => {
    root.dataset.theme = theme;
  });
  render(<Viewer context={context} />, root);
  el.append(root);
  host.signal.addEventListener("abort", () => {
    render(null, root);
    root.remove();
  });
}
