// @vitest-environment happy-dom
// Links to a step, in the address of an offline page and in the text around a widget.

import { afterEach, expect, it } from "vitest";
import { readLink } from "../../src/core/links";
import { byId, cell, host, open, settled } from "../viewer";

const links: HTMLAnchorElement[] = [];

async function click(href: string, before = false): Promise<boolean> {
  const link = document.createElement("a");
  link.setAttribute("href", href);
  links.push(link);
  if (before) document.body.prepend(link);
  else document.body.append(link);
  const event = new MouseEvent("click", { bubbles: true, cancelable: true });
  link.dispatchEvent(event);
  await settled();
  return event.defaultPrevented;
}

afterEach(() => {
  for (const link of links.splice(0)) link.remove();
});

it.each([
  ["#step=12&word=moon", { step: 11, words: ["moon"] }],
  ["step=1", { step: 0, words: [] }],
  ["#word=red,boat", { step: null, words: ["red", "boat"] }],
  ["#step=0&word=moon", null],
  ["#step=x", null],
  ["#step=99999999", null],
  ["#heading", null],
  ["", null],
])("reads %s", (hash, link) => {
  expect(readLink(hash)).toEqual(link);
});

it("goes to the step and selects the words that the prompt has", async () => {
  await open();
  expect(await click("#step=2&word=RED,elephant")).toBe(true);
  expect(byId("slider").getAttribute("aria-valuenow")).toBe("2");
  expect(byId("chip-2").getAttribute("aria-pressed")).toBe("true");
});

it("stays within the run", async () => {
  await open();
  await click("#step=500");
  expect(byId("slider").getAttribute("aria-valuenow")).toBe("4");
});

it("leaves other links alone", async () => {
  await open();
  expect(await click("#heading")).toBe(false);
  expect(await click("https://example.org/#about")).toBe(false);
});

it("is about the widget before it, else about the first one", async () => {
  const other = document.createElement("div");
  other.className = "dv";
  await open();
  document.body.append(other);
  expect(await click("#step=2")).toBe(false);
  expect(await click("#step=2", true)).toBe(true);
  other.remove();
});

it("is followed no more once the widget is gone", async () => {
  await open();
  host.controller.abort();
  expect(cell.children).toHaveLength(0);
  expect(await click("#step=2")).toBe(false);
});
