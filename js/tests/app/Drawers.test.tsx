// @vitest-environment happy-dom
// Drawers: requested once, with an error where they cannot be loaded, and not offered without a kernel.

import "../setup";
import { afterEach, expect, it, vi } from "vitest";
import { mount } from "../../src/app/mount";
import type { Context } from "../../src/core/context";
import type { DrawerSource, LoadScript } from "../../src/core/drawer";
import { SOURCE } from "../drawerSource";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "../host";

let host: TestHost;
let cell: HTMLElement;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const button = () => cell.querySelector<HTMLElement>('[data-testid="layers"]');
const requests = () => host.sent.filter((message) => message.type === "more") as { id?: number }[];
const load = vi.fn<LoadScript<Context>>(async () => SOURCE.script);
const LOADED = { ...SOURCE, script: load };

async function open(source?: DrawerSource<Context>): Promise<void> {
  host = new TestHost({ prompt: PROMPT, status: "done", _can_run: true, steps: 4 });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, source);
  host.deliver(runContent("r1", 0, { layers: [{}] }));
  host.deliver(stepContent(0), stepBuffers());
  await settled();
}

async function toggle(): Promise<void> {
  button()?.click();
  await settled();
}

afterEach(() => {
  host.controller.abort();
  cell.remove();
  load.mockClear();
});

it("are asked for once, when the first of them is opened", async () => {
  await open(LOADED);
  expect(requests()).toEqual([]);
  await toggle();
  await toggle();
  await toggle();
  expect(requests()).toHaveLength(1);
  expect(cell.querySelector(".dv-drawers")?.textContent).toContain("Opening");
  host.deliver({ type: "more", seq: 9, id: requests()[0]?.id, style: ".dv b{}" }, [new Uint8Array([1, 2])]);
  await settled();
  expect(load).toHaveBeenCalledExactlyOnceWith(new Uint8Array([1, 2]));
  expect(cell.querySelector(".dv-layers")).not.toBeNull();
  expect(cell.querySelector(".dv style")?.textContent).toBe(".dv b{}");
  await toggle();
  expect(cell.querySelector(".dv-layers")).toBeNull();
});

it("are asked for when somebody first points at the widget", async () => {
  await open(LOADED);
  expect(requests()).toEqual([]);
  for (let i = 0; i < 3; i++)
    cell.querySelector(".dv-time")?.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  expect(requests()).toHaveLength(1);
});

it("say why they cannot be opened, and are asked for again", async () => {
  await open(LOADED);
  await toggle();
  host.deliver({ type: "error", run: null, seq: 9, id: requests()[0]?.id, message: "it is not built" });
  await settled();
  expect(cell.querySelector(".dv-drawers")?.textContent).toContain("it is not built");
  load.mockRejectedValueOnce(new Error("the page forbids scripts"));
  await toggle();
  await toggle();
  host.deliver({ type: "more", seq: 10, id: requests().at(-1)?.id, style: "" }, [new Uint8Array(1)]);
  await settled();
  expect(cell.querySelector(".dv-drawers")?.textContent).toContain("the page forbids scripts");
});

it("are asked for again by a page whose kernel went away before it answered", async () => {
  await open(LOADED);
  await toggle();
  host.connect(false);
  await settled();
  expect(button()).toBeNull();
  host.connect(true);
  await settled();
  await toggle();
  await toggle();
  expect(requests()).toHaveLength(2);
});

it("have no button where they cannot be had: no kernel to ask, or nothing given", async () => {
  await open(LOADED);
  host.connect(false);
  await settled();
  expect(button()).toBeNull();
  host.controller.abort();
  cell.remove();
  await open();
  expect(button()).toBeNull();
});

it("stay open when the kernel goes, and say what is missing", async () => {
  await open(SOURCE);
  await toggle();
  host.connect(false);
  await settled();
  cell.querySelector<HTMLElement>('[data-testid="chip-2"]')?.click();
  await settled();
  expect(cell.querySelector(".dv-layers")?.textContent).toContain("no longer running");
});
