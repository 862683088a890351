// @vitest-environment happy-dom
// The prompt: its words as chips, its text, and the settings of the run.

import { describe, expect, it, vi } from "vitest";
import { PROMPT, runContent, stepBuffers, stepContent } from "../host";
import { byId, cell, host, open, press, query, settled, type } from "../viewer";

describe("a call of the notebook's own code", () => {
  it("shows its words and is marked as such, until the widget's own run begins", async () => {
    await open();
    expect(cell.querySelector("[data-testid=external]")).toBeNull();
    host.deliver(runContent("r2", 20, { prompt: "a red weathervane", external: true, seed: null }));
    host.deliver(stepContent(0, 21, "r2"), stepBuffers());
    host.fromKernel({ prompt: "a red weathervane" });
    await settled();
    expect(byId("external").textContent).toBe("your call");
    expect(byId("external").title).toContain("its seed is not known");
    expect(byId("chip-2").textContent).toBe("red");
    host.deliver(runContent("r3", 30));
    host.deliver(stepContent(0, 31, "r3"), stepBuffers());
    await settled();
    expect(cell.querySelector("[data-testid=external]")).toBeNull();
  });
});

describe("chips", () => {
  it("show the words, the unknown and the cut-off ones marked, special tokens only when asked for", async () => {
    await open();
    const chips = [...cell.querySelectorAll(".dv-chip")];
    expect(chips.map((chip) => chip.querySelector("button")?.textContent)).toEqual([
      "a",
      "red",
      "weathervane (never seen by the model)",
      "lost (no effect)",
    ]);
    expect(byId<HTMLButtonElement>("chip-4").disabled).toBe(true);
    expect(query(".dv-note").textContent).toBe(
      "The model has never seen: weathervane · Prompt too long: lost has no effect",
    );
    query(".dv-special").click();
    await settled();
    expect(byId("chip-0").textContent).toBe("start");
  });

  it("are followed by the reason why the image is not the decoded one", async () => {
    await open();
    const note = "the safety checker replaced the decoded image";
    host.deliver({ type: "end", run: "r1", seq: 9, state: "done", steps: 4, error: null, seconds: 1, note });
    await settled();
    expect(query(".dv-note").textContent).toContain("· The safety checker replaced the decoded image");
  });

  it("open to their tokens", async () => {
    await open();
    query(".dv-tokens").click();
    await settled();
    expect([...cell.querySelectorAll(".dv-token")].map((piece) => piece.textContent)).toEqual(["weather", "vane"]);
  });

  it("preview on hover, keep on click, add with shift, let go with Escape", async () => {
    await open();
    byId("chip-1").dispatchEvent(new PointerEvent("pointerenter"));
    await settled();
    expect(query(".dv-bar-name").textContent).toBe("a");
    byId("chip-1").dispatchEvent(new PointerEvent("pointerleave"));
    byId("chip-2").click();
    byId("chip-3").dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }));
    await settled();
    expect([...cell.querySelectorAll(".dv-bar-name")].map((name) => name.textContent)).toEqual(["red", "weathervane"]);
    expect(byId("map-2").getAttribute("aria-pressed")).toBe("true");
    await vi.waitFor(() => expect(host.written).toContainEqual(expect.objectContaining({ selected: [2, 3] })));
    press(byId("slider"), "Escape");
    await settled();
    expect(cell.querySelector(".dv-bar-name")).toBeNull();
  });

  it("are one tab stop, moved along by arrows", async () => {
    await open();
    const bar = query(".dv-chips");
    expect(bar.querySelectorAll('[data-stop][tabindex="0"]')).toHaveLength(1);
    byId("chip-1").focus();
    press(byId("chip-1"), "ArrowRight");
    expect(document.activeElement).toBe(byId("chip-2"));
    expect(byId("slider").getAttribute("aria-valuenow")).toBe("4");
  });
});

describe("editing the prompt", () => {
  const input = () => byId<HTMLTextAreaElement>("prompt-input");
  const selected = () => input().value.slice(input().selectionStart, input().selectionEnd);

  it("begins with the pencil, a double-click on a word, or a key on a chosen chip", async () => {
    await open();
    byId("edit-prompt").click();
    await settled();
    expect(document.activeElement).toBe(input());
    expect(query(".dv-prompt").hasAttribute("data-text")).toBe(true);
    press(input(), "Escape");
    input().blur();
    byId("chip-3").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
    expect(selected()).toBe("weathervane");
    press(input(), "Escape");
    input().blur();
    await settled();
    byId("chip-2").focus();
    press(byId("chip-2"), "b", { ctrlKey: true });
    expect(document.activeElement).toBe(byId("chip-2"));
    press(byId("chip-2"), "b");
    expect(selected()).toBe("red");
  });

  it("is not offered for a recorded run", async () => {
    await open({ _can_run: false });
    expect(cell.querySelector("[data-testid=edit-prompt]")).toBeNull();
    byId("chip-2").dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
    expect(query(".dv-prompt").hasAttribute("data-text")).toBe(false);
  });
});

describe("the prompt", () => {
  const input = () => byId<HTMLTextAreaElement>("prompt-input");

  it("runs on Enter with the settings as they are", async () => {
    await open();
    input().focus();
    type(input(), "a blue boat");
    press(input(), "Enter");
    expect(host.of("run")).toEqual([{ type: "run", prompt: "a blue boat", seed: 7, steps: 4, guidance_scale: 7.5 }]);
    await settled();
    expect(byId("stop").textContent).toBe("Stop");
    expect(query(".dv-chips").textContent).toBe("ablueboat");
  });

  it("leaves to the kernel what is the pipeline's own, and offers no guidance where there is none", async () => {
    await open({ steps: null, guidance_scale: null });
    expect(cell.querySelector("[aria-label=guidance]")).toBeNull();
    expect(query<HTMLInputElement>("[aria-label=steps]").value).toBe("–");
    input().focus();
    type(input(), "a blue boat");
    press(input(), "Enter");
    expect(host.of("run")).toEqual([
      { type: "run", prompt: "a blue boat", seed: 7, steps: null, guidance_scale: null },
    ]);
  });

  it("loses no letter typed right after Enter", async () => {
    await open();
    input().focus();
    type(input(), "a blue boat");
    press(input(), "Enter");
    await settled();
    type(input(), "a blue boat at night");
    await settled();
    expect(input().value).toBe("a blue boat at night");
    press(input(), "Enter");
    expect(host.of("run").map((message) => message.prompt)).toEqual(["a blue boat", "a blue boat at night"]);
  });

  it("keeps a draft when the focus leaves, and gives it up on Escape", async () => {
    await open();
    input().focus();
    type(input(), "half a th");
    input().blur();
    await settled();
    expect(input().value).toBe("half a th");
    press(input(), "Escape");
    await settled();
    expect(input().value).toBe(PROMPT);
  });

  it("does not run on the Enter that ends an input method's word, nor when it is empty", async () => {
    await open();
    type(input(), "円");
    press(input(), "Enter", { isComposing: true });
    type(input(), "   ");
    await settled();
    press(input(), "Enter");
    await settled();
    expect(host.of("run")).toEqual([]);
    expect(query('[role="alert"]').textContent).toMatch(/Write a prompt/);
  });

  it("moves along the steps with arrows once it has been run", async () => {
    await open();
    input().focus();
    type(input(), PROMPT);
    press(input(), "Enter");
    await settled();
    press(input(), "ArrowLeft");
    expect(byId("slider").getAttribute("aria-valuenow")).toBe("3");
  });

  it("cannot be edited without a pipeline, and its settings are no fields then", async () => {
    await open();
    expect(query(".dv-dice").hidden).toBe(false);
    host.fromKernel({ _can_run: false });
    await settled();
    expect(query(".dv-dice").hidden).toBe(true);
    expect(cell.querySelectorAll(".dv-settings input:enabled")).toHaveLength(0);
    expect(input().readOnly).toBe(true);
    expect(cell.querySelector('[data-testid="run"]')).toBeNull();
  });
});

describe("numbers", () => {
  const field = (label: string) => query<HTMLInputElement>(`input[aria-label="${label}"]`);

  it("run with Enter", async () => {
    await open();
    type(field("seed"), "11");
    press(field("seed"), "Enter");
    expect(host.of("run")[0]).toMatchObject({ seed: 11, prompt: PROMPT });
  });

  it.each([
    ["steps", "0"],
    ["steps", "1.5"],
    ["seed", "seven"],
    ["guidance", ""],
  ])("say what is wrong with %s = %j, and do not run", async (label, text) => {
    await open();
    type(field(label), text);
    await settled();
    press(field(label), "Enter");
    await settled();
    expect(field(label).getAttribute("aria-invalid")).toBe("true");
    expect(query('[role="alert"]').textContent).toContain(label);
    byId("run").click();
    expect(host.of("run")).toEqual([]);
    press(field(label), "Escape");
    await settled();
    expect(cell.querySelector('[role="alert"]')).toBeNull();
  });
});

describe("marks of changed words", () => {
  const words = (...texts: string[]) =>
    texts.map((text) => ({ text, tokens: [1], token_texts: [text], kind: "word", unknown: false }));
  const next = async (...texts: string[]) => {
    host.deliver(runContent("r2", 20, { prompt: texts.join(" "), words: words(...texts) }));
    host.deliver(
      { ...stepContent(0, 21, "r2"), maps: { shape: [texts.length, 1, 1], scales: texts.map(() => [0, 1]) } },
      [new Uint8Array([0x52, 1]), new Uint8Array(texts.length)],
    );
    host.fromKernel({ prompt: texts.join(" ") });
    await settled();
    return [...cell.querySelectorAll(".dv-chip[data-changed]")].map((chip) => chip.textContent?.split(" ")[0]);
  };

  it("stand at the words that are new, where most words stayed", async () => {
    await open();
    expect(await next("a", "blue", "weathervane")).toEqual(["blue"]);
  });

  it("are left out where most words are others", async () => {
    await open();
    expect(await next("a", "house", "by", "night")).toEqual([]);
  });
});
