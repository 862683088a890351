// @vitest-environment happy-dom
// What comes with the drawers' script for the prompt: the popover of a word, and suggestions of words.

import { describe, expect, it, vi } from "vitest";
import { SOURCE } from "../drawerSource";
import { byId, cell, host, open, press, query, settled, type } from "../viewer";

describe("the popover of a word", () => {
  const adjust = async () => {
    byId("chip-2").click();
    await settled();
    byId("adjust-word").click();
    await settled();
  };
  const buttons = () => [...byId("word-popover").querySelectorAll("button")];

  it("opens for the selected word, and leaves it out or gives it a weight, with a run", async () => {
    await open({}, 4, SOURCE);
    expect(byId<HTMLButtonElement>("adjust-word").disabled).toBe(true);
    await adjust();
    expect(byId("word-popover").textContent).toContain("At step 4 it is attended to most");
    const slider = query<HTMLInputElement>("[data-testid=word-popover] input");
    slider.value = "1.8";
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await settled();
    expect(query(".dv-popover .dv-num").textContent).toBe("×1.8");
    expect(host.of("run")).toHaveLength(0);
    slider.dispatchEvent(new Event("change", { bubbles: true }));
    expect(host.written).toContainEqual({ weights: { red: 1.8 } });
    expect(host.of("run")).toHaveLength(1);
    await settled();
    buttons()
      .find((button) => button.textContent === "Leave out")
      ?.click();
    await settled();
    expect(host.written).toContainEqual({ weights: { red: null } });
    buttons()
      .find((button) => button.textContent === "Reset")
      ?.click();
    expect(host.written).toContainEqual({ weights: {} });
  });

  it("opens on a right click or a long press, and closes on Escape and on a click elsewhere", async () => {
    await open({}, 4, SOURCE);
    byId("chip-3").dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }));
    await settled();
    expect(byId("word-popover").textContent).toContain("The model has never seen: weathervane");
    press(byId("word-popover"), "Escape");
    await settled();
    expect(cell.querySelector("[data-testid=word-popover]")).toBeNull();
    await adjust();
    byId("slider").dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, button: 2 }));
    await settled();
    expect(cell.querySelector("[data-testid=word-popover]")).toBeNull();
  });

  it("offers no weight for a recorded run", async () => {
    await open({ _can_run: false }, 4, SOURCE);
    await adjust();
    expect(cell.querySelector("[data-testid=word-popover] input")).toBeNull();
    expect(byId("word-popover").textContent).toContain("attended to most");
  });
});

describe("suggestions", () => {
  const SCENES = { shapes: ["circle", "star"], settings: ["at night"], others: ["a"] };
  const input = () => byId<HTMLTextAreaElement>("prompt-input");
  const suggested = () => [...cell.querySelectorAll(".dv-suggestions dd button")].map((button) => button.textContent);

  it("suggests the words that the model knows, and completes one on Tab or a click", async () => {
    await open({ _vocabulary: SCENES }, 4, SOURCE);
    byId("edit-prompt").click();
    type(input(), "a st");
    await settled();
    expect(suggested()).toEqual(["star"]);
    press(input(), "Tab");
    await settled();
    expect(input().value).toBe("a star ");
    expect(suggested()).toEqual(["circle", "star", "at night"]);
    query<HTMLElement>(".dv-suggestions dl > div:last-child button").click();
    await settled();
    expect(input().value).toBe("a star at night ");
    press(input(), "Enter");
    await settled();
    expect(host.of("run").at(-1)).toMatchObject({ prompt: "a star at night" });
    expect(cell.querySelector(".dv-suggestions")).toBeNull();
  });

  it("names an unknown word as soon as it is written, with what there is instead", async () => {
    await open({ _vocabulary: SCENES }, 4, SOURCE);
    byId("edit-prompt").click();
    type(input(), "a circl");
    await settled();
    expect(cell.querySelector(".dv-suggestions [data-tone]")).toBeNull();
    type(input(), "a elephant ");
    await settled();
    expect(query(".dv-suggestions [data-tone]").textContent).toBe(
      "The model has never seen: elephant. It knows circle, star",
    );
  });
});

describe("before the script is here", () => {
  it("a right click opens the browser's menu and no popover, and the popover has no button", async () => {
    await open();
    const click = new MouseEvent("contextmenu", { bubbles: true, cancelable: true });
    byId("chip-3").dispatchEvent(click);
    await settled();
    expect(click.defaultPrevented).toBe(false);
    expect(cell.querySelector("[data-testid=word-popover]")).toBeNull();
    expect(cell.querySelector("[data-testid=adjust-word]")).toBeNull();
  });

  it("a word that a finger holds adds its map", async () => {
    await open();
    byId("chip-2").click();
    byId("chip-3").dispatchEvent(new PointerEvent("pointerdown", { bubbles: true, pointerType: "touch" }));
    await vi.waitFor(() => expect(byId("chip-3").getAttribute("aria-pressed")).toBe("true"));
    expect(byId("chip-2").getAttribute("aria-pressed")).toBe("true");
  });

  it("a popover opens as soon as the script is", async () => {
    let arrive = (_: typeof SOURCE.script) => {};
    const script = new Promise<typeof SOURCE.script>((resolve) => {
      arrive = resolve;
    });
    await open({}, 4, { ...SOURCE, script: () => script });
    byId("chip-3").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    byId("chip-3").dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }));
    const [{ id }] = host.of("more") as unknown as [{ id: number }];
    host.deliver({ type: "more", seq: 99, id, style: "" }, [new Uint8Array(1)]);
    await settled();
    expect(cell.querySelector("[data-testid=word-popover]")).toBeNull();
    arrive(SOURCE.script);
    await settled();
    expect(byId("word-popover").textContent).toContain("weathervane");
  });
});
