// The anywidget adapter: wraps an anywidget model as a Host, and mounts a view. No other file knows the notebook.

import manifests from "virtual:drawer-manifests";
import * as core from "./app/coreExports";
import { mount } from "./app/mount";
import type { Model, RenderProps } from "./core/anywidget";
import type { Context } from "./core/context";
import type { DrawerScript } from "./core/drawer";
import type { Host, TraitName, Traits } from "./core/host";
import type { PageMessage } from "./core/protocol";

/** The class that ipywidgets sets on the element of a view whose kernel is gone. */
const DISCONNECTED = "jupyter-widgets-disconnected";

/** A kernel with one of these states has lost the widget for good. ipywidgets sets its class for the first one only, and
 *  not for a kernel that died and is started anew by its server. */
const DEAD = ["restarting", "autorestarting", "terminating", "dead"];

function hostOf(model: Model, el: HTMLElement, signal: AbortSignal): Host {
  let lost = false;
  let dead = false;
  let connected: boolean | undefined;
  const watchers: ((connected: boolean) => void)[] = [];
  const update = () => {
    const now = !dead && !lost && !el.classList.contains(DISCONNECTED);
    if (now === connected) return;
    connected = now;
    for (const watcher of watchers) watcher(now);
  };
  /** Sends a message; an error is the only sign of a kernel that was shut down. */
  const send = (message: PageMessage): boolean => {
    if (dead || el.classList.contains(DISCONNECTED)) return false;
    try {
      model.send(message);
      lost = false;
    } catch {
      lost = true;
    }
    update();
    return !lost;
  };
  const status = model.widget_manager?.kernel?.statusChanged;
  const follow = (_: unknown, state: string) => {
    dead ||= DEAD.includes(state);
    update();
  };
  status?.connect(follow);
  signal.addEventListener("abort", () => status?.disconnect(follow));
  const listen = (name: string, callback: (...args: never[]) => void) => {
    model.on(name, callback);
    signal.addEventListener("abort", () => model.off(name, callback));
  };
  return {
    signal,
    isOffline: false,
    get: <K extends TraitName>(name: K) => model.get(name) as Traits[K] | undefined,
    set(values) {
      for (const [name, value] of Object.entries(values)) model.set(name, value);
      // Saving traits without a kernel logs an error in the host's console, so a message tries the connection first: the
      // kernel ignores the acknowledgement of message -1.
      if (send({ type: "ack", seq: -1 })) model.save_changes();
    },
    send,
    onChange: (name, callback) => listen(`change:${name}`, callback),
    onMessage: (callback) => listen("msg:custom", callback as (...args: never[]) => void),
    onConnection(callback) {
      watchers.push(callback);
      const observer = new MutationObserver(update);
      observer.observe(el, { attributeFilter: ["class"] });
      signal.addEventListener("abort", () => observer.disconnect());
      if (connected === undefined) update();
      else callback(connected);
    },
  };
}

/** Loads the drawers' script: a module whose default export takes the core and returns what it holds. */
async function load(script: Uint8Array): Promise<DrawerScript<Context>> {
  const url = URL.createObjectURL(new Blob([script as Uint8Array<ArrayBuffer>], { type: "text/javascript" }));
  try {
    const { default: make } = await import(/* @vite-ignore */ url);
    return make(core);
  } finally {
    URL.revokeObjectURL(url);
  }
}

export default () => ({
  render({ model, el, signal }: RenderProps): () => void {
    const life = new AbortController();
    signal?.addEventListener("abort", () => life.abort());
    el.classList.add("dv-host");
    mount(hostOf(model, el, life.signal), el, { manifests, script: load, core });
    return () => life.abort();
  },
});
