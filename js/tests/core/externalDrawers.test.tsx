// @vitest-environment happy-dom
// Drawers that scripts of the page add from outside the package, in the built widget's own views.

import "../setup";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { mount } from "../../src/app/mount";
import { SOURCE } from "../drawerSource";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "../host";

type Core = typeof import("../../src/app/coreExports");
type View = Parameters<Core["createElement"]>[0];

let host: TestHost;
let cell: HTMLElement;

const scope = globalThis as { diffvisDrawers?: unknown[] };
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const button = (name: string) => cell.querySelector<HTMLElement>(`.dv-drawer-bar [data-testid="${name}"]`);
const labels = () =>
  [...cell.querySelectorAll(".dv-drawer-bar > .dv-choice > button")].map(({ textContent }) => textContent);

const COUNT = {
  name: "count",
  label: "Count",
  order: 15,
  needsKernel: false,
  isOffered: (run: { length: number }) => run.length > 1,
  create: ({ createElement }: Core) => ({
    View: (({ context }: { context: { session: { store: { shown: { value: { count: { value: number } } } } } } }) =>
      createElement("p", { class: "count" }, `${context.session.store.shown.value.count.value} steps`)) as View,
  }),
};

function add(drawer: unknown): void {
  scope.diffvisDrawers ??= [];
  scope.diffvisDrawers.push(drawer);
}

function open(): void {
  host = new TestHost({ prompt: PROMPT, status: "done", steps: 4 });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, SOURCE);
  host.deliver(runContent());
  host.deliver(stepContent(0), stepBuffers());
}

beforeEach(() => {
  delete scope.diffvisDrawers;
});
afterEach(() => {
  host.controller.abort();
  cell.remove();
});

it.each(["before", "after"])("are offered in their place when they are added %s the widget appears", async (when) => {
  if (when === "before") add(COUNT);
  open();
  if (when === "after") add(COUNT);
  await settled();
  expect(labels()).toEqual([
    "Places",
    "Map",
    "Count",
    "Methods",
    "Compare",
    "Decision",
    "Runs",
    "Tables",
    "Notes",
    "Export",
    "?",
  ]);
  button("count")?.click();
  await settled();
  expect(cell.querySelector(".count")?.textContent).toBe("1 steps");
  host.deliver(stepContent(1), stepBuffers());
  await settled();
  expect(cell.querySelector(".count")?.textContent).toBe("2 steps");
});

it("are offered by every widget of the page, and by none that is gone", async () => {
  open();
  const [first, controller] = [cell, host.controller];
  open();
  const isOffered = vi.fn(() => true);
  controller.abort();
  first.remove();
  add({ ...COUNT, isOffered });
  await settled();
  expect(button("count")).not.toBeNull();
  expect(isOffered).toHaveBeenCalled();
});

it("attach once, before they are opened", async () => {
  const attach = vi.fn();
  add({ ...COUNT, create: () => ({ View: () => null, attach }) });
  open();
  await settled();
  add({ ...COUNT, name: "other" });
  await settled();
  expect(attach).toHaveBeenCalledOnce();
});

it("cannot replace a drawer of the package, and are left out where they are broken", async () => {
  const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
  open();
  add({ ...COUNT, name: "notes", label: "Mine" });
  add({ label: "No name" });
  add({
    ...COUNT,
    create: () => {
      throw new Error("no");
    },
  });
  await settled();
  expect(labels()).toEqual([
    "Places",
    "Map",
    "Methods",
    "Compare",
    "Decision",
    "Runs",
    "Tables",
    "Notes",
    "Export",
    "?",
  ]);
  expect(warn).toHaveBeenCalled();
  warn.mockRestore();
});
