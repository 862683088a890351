// @vitest-environment happy-dom
// The anywidget adapter against a model that behaves as ipywidgets' does.

import "./setup";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import widget from "../src/index";
import { PROMPT, runContent, stepBuffers, stepContent } from "./host";

type Listener = (...args: never[]) => void;

class Model {
  readonly traits: Record<string, unknown> = { prompt: PROMPT, status: "done", _can_run: true, concepts: [], step: 1 };
  readonly sent: { type: string }[] = [];
  readonly listeners: [string, Listener][] = [];
  saved = 0;
  alive = true;

  get(name: string): unknown {
    return this.traits[name];
  }
  set(name: string, value: unknown): void {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }
  save_changes(): void {
    if (!this.alive) throw new Error("the host would write an error into its console");
    this.saved++;
  }
  send(content: unknown): void {
    if (!this.alive) throw new Error("Cannot send");
    this.sent.push(content as { type: string });
  }
  on(name: string, listener: Listener): void {
    this.listeners.push([name, listener]);
  }
  off(name: string, listener: Listener): void {
    const at = this.listeners.findIndex(([other, known]) => other === name && known === listener);
    if (at >= 0) this.listeners.splice(at, 1);
  }
  emit(name: string, ...args: unknown[]): void {
    for (const [other, listener] of [...this.listeners]) if (other === name) listener(...(args as never[]));
  }
}

let model: Model;
let el: HTMLElement;
let close: () => void;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const status = () => el.querySelector('[data-testid="status"]')?.textContent;
const slider = () => el.querySelector('[data-testid="slider"]') as HTMLElement;
const home = () => slider().dispatchEvent(new KeyboardEvent("keydown", { key: "Home", bubbles: true, composed: true }));

beforeEach(async () => {
  model = new Model();
  el = document.createElement("div");
  document.body.append(el);
  close = widget().render({ model, el });
  const whole = new Uint8Array(200);
  const [image, maps] = stepBuffers() as [Uint8Array, Uint8Array];
  whole.set(image, 50);
  whole.set(maps, 100);
  model.emit("msg:custom", runContent(), []);
  // Buffers are views into the message that they came in.
  for (const index of [0, 1]) {
    const views = [new DataView(whole.buffer, 50, image.length), new DataView(whole.buffer, 100, maps.length)];
    model.emit("msg:custom", stepContent(index), views);
  }
  await settled();
});

afterEach(() => {
  close();
  el.remove();
});

it("has no initialize that a message could get lost behind", () => expect(Object.keys(widget())).toEqual(["render"]));

it("shows what comes and acknowledges it", () => {
  expect(slider().getAttribute("aria-valuetext")).toBe("Step 2 of 4, t = 749");
  expect(model.sent.filter(({ type }) => type === "ack")).toHaveLength(3);
});

it("writes traits and tells the kernel", async () => {
  home();
  await vi.waitFor(() => expect(model.saved).toBeGreaterThan(0));
  expect(model.traits.step).toBe(0);
});

it("says so when the kernel refuses a message, scrubs on, and comes back", async () => {
  model.alive = false;
  home();
  await vi.waitFor(() => expect(status()).toMatch(/No kernel/));
  expect(slider().getAttribute("aria-valuenow")).toBe("1");
  expect(model.saved).toBe(0);
  model.alive = true;
  slider().dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true, composed: true }));
  await vi.waitFor(() => expect(status()).not.toMatch(/No kernel/));
  expect(model.sent.at(-1)?.type).toBe("hello");
});

it("says so when ipywidgets marks the view as disconnected", async () => {
  el.classList.add("jupyter-widgets-disconnected");
  await vi.waitFor(() => expect(status()).toMatch(/No kernel/));
  el.classList.remove("jupyter-widgets-disconnected");
  await vi.waitFor(() => expect(status()).not.toMatch(/No kernel/));
});

it("leaves no listener and no element behind, by its return value or by the signal", async () => {
  const controller = new AbortController();
  const other = document.createElement("div");
  const before = model.listeners.length;
  widget().render({ model, el: other, signal: controller.signal });
  expect(model.listeners.length).toBe(2 * before);
  controller.abort();
  expect(model.listeners.length).toBe(before);
  expect(other.childElementCount).toBe(0);
  close();
  expect(model.listeners).toEqual([]);
});

it("offers a drawer that a script of the page adds, before the kernel has sent the package's own", async () => {
  type Core = typeof import("../src/app/coreExports");
  const scope = globalThis as { diffvisDrawers?: unknown[] };
  scope.diffvisDrawers ??= [];
  scope.diffvisDrawers.push({
    name: "prompt-length",
    label: "Prompt length",
    order: 90,
    needsKernel: false,
    create: ({ createElement, useComputed }: Core) => ({
      View: ({ context }: { context: import("../src/core/context").Context }) => {
        const length = useComputed(() => context.session.store.shown.value?.info.words.length);
        return createElement("p", { class: "prompt-length" }, length);
      },
    }),
  });
  await settled();
  el.querySelector<HTMLElement>('[data-testid="prompt-length"]')?.click();
  await settled();
  expect(el.querySelector(".prompt-length")?.textContent).toBe("5");
});

it("says at once that a kernel died, even where its server starts another one", async () => {
  close();
  let report: (kernel: unknown, status: string) => void = () => undefined;
  const statusChanged = {
    connect: (callback: typeof report) => {
      report = callback;
    },
    disconnect: vi.fn(),
  };
  close = widget().render({ model: Object.assign(model, { widget_manager: { kernel: { statusChanged } } }), el });
  report(null, "busy");
  await settled();
  expect(status()).not.toContain("No kernel");
  report(null, "autorestarting");
  await settled();
  expect(status()).toContain("No kernel: run this cell again");
  expect((el.querySelector('[data-testid="run"]') as HTMLButtonElement).disabled).toBe(true);
  report(null, "idle"); // another kernel, which knows nothing of this widget
  await settled();
  expect(status()).toContain("No kernel");
  close();
  expect(statusChanged.disconnect).toHaveBeenCalledOnce();
});
