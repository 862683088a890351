// @vitest-environment happy-dom
// The tour of the widget, and notes as the same cards with pins on the filmstrip.

import { expect, it } from "vitest";
import { mount } from "../../../src/app/mount";
import { SOURCE } from "../../drawerSource";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "../../host";
import { settled } from "../../viewer";

let cell: HTMLElement;
/** Words without a warning, whose place hints take. */
const KNOWN = ["a", "red", "boat", "at", "night"].map((text) => ({ text, token_texts: [text], kind: "word" }));

async function show(
  traits: TestHost["traits"] = {},
  notes: readonly object[] = [],
  info: object = {},
): Promise<TestHost> {
  localStorage.clear();
  const host = new TestHost({ prompt: PROMPT, status: "done", steps: 4, _can_run: true, concepts: [], ...traits });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, SOURCE);
  host.deliver(runContent("r1", 0, { prompt: PROMPT, notes, meter: null, ...info }));
  for (let i = 0; i < 4; i++) host.deliver(stepContent(i), stepBuffers());
  await settled();
  return host;
}

const card = () => cell.querySelector<HTMLElement>("[data-testid=tour-card]");
const press = async (name: string) => {
  [...(card()?.querySelectorAll("button") ?? [])].find((button) => button.textContent === name)?.click();
  await settled();
};
const step = () => cell.querySelector("[data-testid=slider]")?.getAttribute("aria-valuenow");

it("begins from Help, goes on, back and ends", async () => {
  await show();
  cell.querySelector<HTMLElement>("[data-testid=help]")?.click();
  await settled();
  cell.querySelector<HTMLElement>("[data-testid=start-tour]")?.click();
  await settled();
  expect(card()?.textContent).toContain("What the model thinks");
  expect(step()).toBe("1");
  await press("Next");
  await press("Next");
  expect(card()?.textContent).toContain("This is the map of “red”");
  await press("Back");
  expect(card()?.textContent).toContain("The steps");
  while (card() && !card()?.textContent?.includes("Done")) await press("Next");
  expect(card()?.textContent).toContain("6 of 6"); // there is no meter, so no card about concepts
  await press("Done");
  expect(card()).toBeNull();
});

it("begins when Python asks, once there is a step, and once only", async () => {
  const host = await show({ _tour: 1 });
  expect(card()?.textContent).toContain("What the model thinks");
  expect(host.written).toContainEqual({ _tour: 0 });
});

it("leaves out what a recorded run cannot do, and ends on Escape", async () => {
  await show({ _can_run: false, _tour: 1 });
  expect(card()?.textContent).toContain("1 of 5");
  card()?.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  await settled();
  expect(card()).toBeNull();
});

it("is offered once by a hint", async () => {
  const host = await show({}, [], { words: KNOWN });
  const hint = () => cell.querySelector<HTMLElement>("[data-testid=hint]");
  expect(hint()?.textContent).toContain("60-second tour");
  hint()?.querySelector("button")?.click();
  await settled();
  expect(host.written).toContainEqual({ _tour: 1 });
  expect(hint()?.textContent).not.toContain("tour");
});

it("is offered once the first run of an empty widget is over", async () => {
  localStorage.clear();
  const host = new TestHost({ status: "idle", prompt: "", steps: 4, _can_run: true, concepts: [] });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, SOURCE);
  const hint = () => cell.querySelector<HTMLElement>("[data-testid=hint]");
  await settled();
  expect(hint()).toBeNull();
  const field = cell.querySelector<HTMLTextAreaElement>("[data-testid=prompt-input]") as HTMLTextAreaElement;
  field.focus();
  field.value = PROMPT;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  host.fromKernel({ prompt: PROMPT, status: "running" });
  host.deliver(runContent("r1", 0, { prompt: PROMPT, meter: null, words: KNOWN }));
  for (let i = 0; i < 4; i++) host.deliver(stepContent(i), stepBuffers());
  await settled();
  expect(hint()).toBeNull();
  host.fromKernel({ status: "done" });
  await settled();
  expect(hint()?.textContent).toContain("60-second tour");
});

it("shows notes as cards, opened by pins on the filmstrip", async () => {
  await show({}, [
    { text: "Look at <b>red</b>", step: 2, words: [2], region: null },
    { text: "The whole run", step: null, words: [], region: [0, 0, 0.5, 0.5] },
  ]);
  const pins = [...cell.querySelectorAll<HTMLElement>(".dv-pins button")];
  expect(pins.map((pin) => pin.getAttribute("aria-label"))).toEqual(["Note 1, step 3"]);
  pins[0]?.click();
  await settled();
  expect(card()?.textContent).toContain("Step 3 · red");
  expect(card()?.textContent).toContain("Look at <b>red</b>");
  expect(step()).toBe("3");
  await press("Next");
  expect(card()?.textContent).toContain("The whole run · a region of the image");
  await press("Done");
  cell.querySelector<HTMLElement>("[data-testid=note-cards]")?.click();
  await settled();
  expect(card()?.textContent).toContain("1 of 2");
});
