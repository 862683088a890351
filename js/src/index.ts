// The anywidget adapter: an anywidget model as a Host, and the life of a view. Nothing else knows the notebook.

import type { Host, TraitName, Traits } from "./core/host";
import type { PageMessage } from "./core/protocol";
import { mount } from "./views/mount";

interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown): void;
  on(name: string, callback: (...args: never[]) => void): void;
  off(name: string, callback: (...args: never[]) => void): void;
}

interface RenderProps {
  readonly model: Model;
  readonly el: HTMLElement;
  readonly signal?: AbortSignal;
}

/** ipywidgets puts this class on the element of a view whose kernel is gone. */
const DISCONNECTED = "jupyter-widgets-disconnected";

function hostOf(model: Model, el: HTMLElement, signal: AbortSignal): Host {
  const listen = (name: string, callback: (...args: never[]) => void) => {
    model.on(name, callback);
    signal.addEventListener("abort", () => model.off(name, callback));
  };
  return {
    signal,
    get: <K extends TraitName>(name: K) => model.get(name) as Traits[K] | undefined,
    set(values) {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      model.save_changes();
    },
    send(message: PageMessage) {
      // A page without a kernel has nobody to tell; it still shows what it has.
      if (el.classList.contains(DISCONNECTED)) return;
      try {
        model.send(message);
      } catch (error) {
        console.warn("diffvis_widget: message not sent:", error);
      }
    },
    onChange: (name, callback) => listen(`change:${name}`, callback),
    onMessage: (callback) => listen("msg:custom", callback as (...args: never[]) => void),
    onConnection(callback) {
      let last: boolean | undefined;
      const look = () => {
        const connected = !el.classList.contains(DISCONNECTED);
        if (connected !== last) callback(connected);
        last = connected;
      };
      const observer = new MutationObserver(look);
      observer.observe(el, { attributeFilter: ["class"] });
      signal.addEventListener("abort", () => observer.disconnect());
      look();
    },
  };
}

export default () => ({
  render({ model, el, signal }: RenderProps): () => void {
    const life = new AbortController();
    signal?.addEventListener("abort", () => life.abort());
    mount(hostOf(model, el, life.signal), el);
    return () => life.abort();
  },
});
