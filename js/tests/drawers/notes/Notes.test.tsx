// @vitest-environment happy-dom
// Notes: a tour visits each of them; a draft goes to the kernel and stays until the kernel has accepted it.

import "../../setup";
import { afterEach, beforeEach, expect, it } from "vitest";
import { mount } from "../../../src/app/mount";
import { SOURCE } from "../../drawerSource";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "../../host";

const NOTES = [
  { text: "Look: the vane <b>turns</b>.", step: 2, words: [3], region: [0, 0, 0.5, 1] },
  { text: "All of it.", step: null, words: [], region: null },
];
let host: TestHost;
let cell: HTMLElement;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const named = (name: string) =>
  [...cell.querySelectorAll<HTMLButtonElement>(".dv-notes button")].find(
    (button) => (button.getAttribute("aria-label") ?? button.textContent) === name,
  );
const slider = () => cell.querySelector('[data-testid="slider"]')?.getAttribute("aria-valuenow");
const requests = () => host.sent.filter((message) => message.type === "notes");

async function open(notes: readonly object[], isOffline = false): Promise<void> {
  host = new TestHost({ prompt: PROMPT, status: "done", _can_run: true, steps: 4 });
  host.isOffline = isOffline;
  mount(host, cell, SOURCE);
  host.deliver(runContent("r1", 0, { notes }));
  for (const index of [0, 1, 2, 3]) host.deliver(stepContent(index), stepBuffers());
  await settled();
}

async function press(name: string): Promise<void> {
  const button = named(name);
  if (!button) throw new Error(`no button "${name}" in ${cell.querySelector(".dv-notes")?.textContent}`);
  button.click();
  await settled();
}

async function type(text: string): Promise<void> {
  const field = cell.querySelector<HTMLTextAreaElement>(".dv-notes textarea");
  if (!field) throw new Error("nothing to type into");
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await settled();
}

beforeEach(() => {
  cell = document.createElement("div");
  document.body.append(cell);
});

afterEach(() => {
  host.controller.abort();
  cell.remove();
});

it("are open where there are any, as text", async () => {
  await open(NOTES);
  const notes = cell.querySelector(".dv-notes");
  expect(notes?.textContent).toContain("Look: the vane <b>turns</b>.");
  expect(notes?.querySelector("b")).toBeNull();
  expect(notes?.textContent).toContain("Step 3 · weathervane · a region of the image");
  expect(notes?.textContent).toContain("The whole run");
});

it("lead through the run", async () => {
  await open(NOTES);
  await press("Start");
  expect(slider()).toBe("3");
  expect(cell.querySelector('[data-testid="chip-3"]')?.getAttribute("aria-pressed")).toBe("true");
  expect(cell.querySelector(".dv-notes [aria-current]")?.textContent).toContain("the vane");
  await press("Next");
  expect(cell.querySelector(".dv-notes [aria-current]")?.textContent).toContain("All of it.");
  expect(named("Next")?.disabled).toBe(true);
  // A note on the whole run keeps the current step, and releases the words.
  expect(slider()).toBe("3");
  expect(cell.querySelector('[data-testid="chip-3"]')?.getAttribute("aria-pressed")).toBe("false");
  await press("Previous");
  expect(cell.querySelector(".dv-notes [aria-current]")?.textContent).toContain("the vane");
});

it("are kept by the kernel, and stay typed until it has them", async () => {
  await open([]);
  cell.querySelector<HTMLElement>('[data-testid="notes"]')?.click();
  await settled();
  await press("Add a note");
  await type("Here it begins.");
  await press("Save");
  expect(requests()).toMatchObject([
    { run: "r1", notes: [{ text: "Here it begins.", step: 3, words: [], region: null }] },
  ]);
  host.deliver({ type: "error", run: "r1", seq: 9, id: requests()[0]?.id, message: "the disk is full" });
  await settled();
  expect(cell.querySelector<HTMLTextAreaElement>(".dv-notes textarea")?.value).toBe("Here it begins.");
  expect(cell.querySelector(".dv-notes [role=alert]")?.textContent).toContain("the disk is full");
  await press("Save");
  host.deliver({ type: "notes", seq: 10, id: requests()[1]?.id });
  host.deliver(runContent("r1", 11, { notes: [{ text: "Here it begins.", step: 3, words: [], region: null }] }));
  await settled();
  expect(cell.querySelector<HTMLTextAreaElement>(".dv-notes textarea")).toBeNull();
  expect(cell.querySelector(".dv-notes ol")?.textContent).toContain("Here it begins.");
});

it("are edited and removed one by one", async () => {
  await open(NOTES);
  await press("Edit note 2");
  await type("All of it, slowly.");
  await press("Save");
  expect(requests()[0]).toMatchObject({ notes: [NOTES[0], { ...NOTES[1], text: "All of it, slowly." }] });
  host.deliver({ type: "notes", seq: 9, id: requests()[0]?.id });
  await settled();
  await press("Remove note 1");
  expect(requests()[1]).toMatchObject({ notes: [NOTES[1]] });
  host.deliver(runContent("r1", 0, { notes: [NOTES[1]] }));
  host.deliver({ type: "notes", seq: 10, id: requests()[1]?.id });
  await settled();
  await press("Undo");
  expect(requests()[2]).toMatchObject({ notes: NOTES });
});

it("are only read where nobody keeps them, and not offered where there are none", async () => {
  await open(NOTES, true);
  expect(named("Start")).toBeDefined();
  expect(named("Add a note")).toBeUndefined();
  expect(named("Edit note 1")).toBeUndefined();
  host.controller.abort();
  await open([], true);
  expect(cell.querySelector('[data-testid="notes"]')).toBeNull();
});

it("take a place that was only clicked, as one that is not empty", async () => {
  await open([]);
  const image = cell.querySelector("[role=application]");
  image?.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  cell.querySelector<HTMLButtonElement>("[data-testid=notes]")?.click();
  await settled();
  await press("Add a note");
  await type("Here.");
  await press("Save");
  const question = requests()[0];
  const place = question?.type === "notes" ? question.notes[0]?.region : undefined;
  expect(place?.slice(0, 2)).toEqual([0.5, 0.5]);
  for (const end of place?.slice(2) ?? []) {
    expect(end).toBeGreaterThan(0.5);
    expect(end).toBeCloseTo(0.5, 5);
  }
});

const condition = (phrase: string) => ({
  text: `prompt has "${phrase}"`,
  conditions: [{ kind: "prompt", phrase, present: true }],
});
const TASKS = [
  { text: "Look.", step: null, words: [], region: null },
  { text: "Paint it red.", step: null, words: [], region: null, expects: condition("red") },
  { text: "Paint the moon.", step: 1, words: [], region: null, expects: condition("moon") },
];
const checks = () => [...cell.querySelectorAll(".dv-check")].map((check) => check.textContent);
const count = () => cell.querySelector('[data-testid="tasks-met"]')?.textContent;
const finish = async (run: string, seq: number) => {
  host.deliver({ type: "end", run, seq, state: "done", steps: 4, error: null, seconds: 1, note: null });
  await settled();
};

it("say whether the run is what they expect, and remember it", async () => {
  await open(TASKS);
  expect(checks()).toEqual(["Not yet: the run is not finished", "Not yet: the run is not finished"]);
  expect(count()).toBe("0 of 2 tasks met");
  await finish("r1", 5);
  expect(checks()).toEqual(["Met: the prompt has “red”", "Not yet: the prompt has no “moon”"]);
  expect(count()).toBe("1 of 2 tasks met");
  expect(cell.querySelector('[data-testid="tasks-met"]')?.getAttribute("role")).toBe("status");
  expect(cell.querySelector(".dv-notes")?.textContent).toContain("Task 2 · Step 2");
  host.deliver(runContent("r2", 6, { notes: TASKS, prompt: "the moon" }));
  for (const index of [0, 1, 2, 3]) host.deliver({ ...stepContent(index), run: "r2" }, stepBuffers());
  await finish("r2", 11);
  expect(checks()).toEqual(["Met by an earlier run", "Met: the prompt has “moon”"]);
  expect(count()).toBe("2 of 2 tasks met");
});
