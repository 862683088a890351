// A mounted viewer for tests, and what a user does with it.

import "./setup";
import { afterEach } from "vitest";
import { mount } from "../src/app/mount";
import type { Context } from "../src/core/context";
import type { DrawerSource } from "../src/core/drawer";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "./host";

export let host: TestHost;
export let cell: HTMLElement;

/** Preact renders in a microtask. */
export const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
export const query = <T extends Element = HTMLElement>(selector: string): T => {
  const element = cell.querySelector<T>(selector);
  if (!element) throw new Error(`nothing matches ${selector}`);
  return element;
};
export const byId = <T extends Element = HTMLElement>(id: string): T => query<T>(`[data-testid="${id}"]`);
export const press = (element: Element, key: string, over: KeyboardEventInit = {}) =>
  element.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, composed: true, ...over }),
  );
export const type = (element: HTMLInputElement | HTMLTextAreaElement, text: string) => {
  element.value = text;
  element.dispatchEvent(new Event("input", { bubbles: true }));
};

/** Opens a viewer; without a source it has no drawers, and nothing that comes with them. */
export async function open(traits: TestHost["traits"] = {}, steps = 4, source?: DrawerSource<Context>): Promise<void> {
  host = new TestHost({
    prompt: PROMPT,
    seed: 7,
    steps: 4,
    guidance_scale: 7.5,
    status: "done",
    _can_run: true,
    concepts: ["red", "boat"],
    ...traits,
  });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, source);
  if (steps > 0) host.deliver(runContent("r1", 0, { prompt: host.traits.prompt }));
  for (let i = 0; i < steps; i++) host.deliver(stepContent(i), stepBuffers());
  await settled();
}

afterEach(() => {
  // A test that opens no viewer has neither.
  host?.controller.abort();
  cell?.remove();
});
