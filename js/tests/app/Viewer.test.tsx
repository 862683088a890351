// @vitest-environment happy-dom
// The widget as it is used: by pointer, by keyboard, in every state.
import { describe, expect, it, vi } from "vitest";
import { pack } from "../../src/core/packedRun";
import { runContent, scoresContent, stepBuffers, stepContent, type TestHost, WORDS } from "../host";
import { byId, cell, host, open, press, query, settled, type } from "../viewer";

describe("steps", () => {
  it("move by key: arrows, shift, Home, End", async () => {
    await open();
    const slider = byId("slider");
    const at = () => slider.getAttribute("aria-valuenow");
    expect(at()).toBe("4");
    press(slider, "ArrowLeft");
    expect(at()).toBe("3");
    press(slider, "Home");
    expect(at()).toBe("1");
    press(slider, "ArrowRight", { shiftKey: true });
    expect(at()).toBe("4");
    press(slider, "ArrowLeft", { shiftKey: true });
    press(slider, "End");
    expect(at()).toBe("4");
    expect(slider.getAttribute("aria-valuetext")).toBe("Step 4 of 4, t = 249");
  });

  it("never let a key out to the notebook", async () => {
    await open();
    const outside = vi.fn();
    document.addEventListener("keydown", outside);
    for (const key of ["b", "Enter", "ArrowLeft", "d"]) press(byId("slider"), key);
    document.removeEventListener("keydown", outside);
    expect(outside).not.toHaveBeenCalled();
    expect(query(".dv").dataset.lmSuppressShortcuts).toBe("true");
  });
});

describe("meters", () => {
  it("show cosine, share, and where a concept emerges", async () => {
    await open();
    host.deliver(
      scoresContent(0, [
        [0.1, 0.2],
        [0.2, 0.15],
        [0.3, 0.1],
        [0.31, 0.12],
      ]),
    );
    await settled();
    expect(byId("meter-red").querySelector(".dv-score")?.textContent?.trim()).toBe("0.31");
    expect(byId("meter-red").hasAttribute("data-weak")).toBe(false);
    expect(byId("meter-boat").hasAttribute("data-weak")).toBe(true);
    expect(query(".dv-marks button").getAttribute("aria-label")).toBe("red emerges at step 2: go there");
    query(".dv-marks button").click();
    await settled();
    expect(byId("meter-red").querySelector(".dv-score")?.textContent?.trim()).toBe("0.20");
    [...cell.querySelectorAll("button")].find((button) => button.textContent === "Share")?.click();
    await settled();
    expect(byId("meter-red").querySelector(".dv-score")?.textContent?.trim()).toBe("0.70");
  });

  it("say in words what the calibrated meter makes of the shown step, and nothing without a calibration", async () => {
    await open();
    host.deliver(scoresContent(0, [[0.1, 0.2]]));
    await settled();
    expect(cell.querySelector('[data-testid="verdicts"]')).toBeNull();
    const rows = {
      present: [
        [null, 0],
        [null, 0],
        [1, null],
        [1, 0],
      ],
    };
    host.deliver(
      scoresContent(
        0,
        [
          [0.1, 0.2],
          [0.2, 0.2],
          [0.3, 0.2],
          [0.4, 0.1],
        ],
        rows,
      ),
    );
    await settled();
    expect(byId("verdicts").textContent).toBe("From step 4 alone: is it in the image? yes: red; no: boat");
    query(".dv-marks button").click();
    await settled();
    expect(byId("verdicts").textContent).toBe("From step 2 alone: is it in the image? not sure yet: red; no: boat");
  });

  it("below zero have a bar to the left of zero, and above it one to its right", async () => {
    await open({}, 2);
    const row = [0.3, -0.1];
    host.deliver(scoresContent(0, [row, row], { null_band: [[0, 0.1], null] }));
    await settled();
    expect(query("[data-testid=meter-red] .dv-fill").style.transform).toBe("translateX(25%) scaleX(0.75)");
    expect(query("[data-testid=meter-boat] .dv-fill").style.transform).toBe("translateX(0%) scaleX(0.25)");
    expect(query(".dv-track").style.getPropertyValue("--zero")).toBe("0.25");
  });

  it("that emerge at one step share a mark that names both", async () => {
    await open();
    host.deliver(scoresContent(0, [[0.3, 0.4]], { emergence: [1, 1] }));
    await settled();
    const labels = [...cell.querySelectorAll(".dv-marks button")].map((mark) => mark.textContent);
    expect(labels).toEqual(["red, boat"]);
    expect(query(".dv-marks button").getAttribute("aria-label")).toBe(
      "red, boat: red emerges and boat emerges at step 2: go there",
    );
    expect(cell.querySelectorAll(".dv-marks i").length).toBe(1);
  });

  it("are added by a word, once, and removed", async () => {
    await open();
    const input = byId<HTMLInputElement>("add-concept");
    for (const word of ["  night  sky ", "red"]) {
      type(input, word);
      await settled();
      query("form").dispatchEvent(new Event("submit", { bubbles: true, cancelable: true }));
      await settled();
    }
    expect(host.traits.concepts).toEqual(["red", "boat", "night sky"]);
    query('[aria-label="Remove boat"]').click();
    expect(host.traits.concepts).toEqual(["red", "night sky"]);
    await settled();
    byId("undo-concept").click();
    expect(host.traits.concepts).toEqual(["red", "boat", "night sky"]);
    await settled();
    expect(cell.querySelector('[data-testid="undo-concept"]')).toBeNull();
  });

  it("say so where the model has none", async () => {
    await open({}, 0);
    host.deliver(runContent("r1", 0, { meter: null }));
    await settled();
    expect(query(".dv-foot").textContent).toMatch(/no meter yet/);
  });
});

describe("states", () => {
  const status = () => byId("status").textContent;

  it.each([
    [{ status: "loading", _notice: "Loading the scenes model" }, "Loading the scenes model"],
    [{ status: "idle" }, "Ready: press Run or Enter"],
    [
      { status: "queued", _notice: "Queued: another run is using this model" },
      "Queued: another run is using this model",
    ],
    [{ status: "failed", error: "ValueError: no" }, "Failed"],
    [{ status: "idle", _can_run: false }, "A recorded run"],
  ] as [TestHost["traits"], string][])("before a run: %j", async (traits, text) => {
    await open(traits, 0);
    expect(status()).toBe(text);
  });

  it("while it runs, with the time that is left", async () => {
    await open({ status: "running" }, 2);
    expect(status()).toBe("Running: step 2 of 4 · 1.0 s left");
  });

  it("without the time of the first step, which warms the model up", async () => {
    await open({ status: "running" }, 0);
    host.deliver(runContent());
    [4, 4.5, 5].forEach((elapsed, index) => {
      host.deliver({ ...stepContent(index, index + 1), elapsed }, stepBuffers());
    });
    await settled();
    expect(status()).toBe("Running: step 3 of 4 · 0.5 s left");
  });

  it("of a recorded run that stands in while the model loads", async () => {
    const messages = [
      { content: { ...runContent("shipped"), shipped: true }, buffers: [] },
      ...[0, 1, 2, 3].map((index) => ({ content: stepContent(index, index + 1, "shipped"), buffers: stepBuffers() })),
      {
        content: { type: "end", run: "shipped", seq: 9, state: "done", steps: 4, error: null, seconds: 0 },
        buffers: [],
      },
    ];
    await open({ status: "loading", _notice: "Loading the scenes model", _snapshot: pack(messages) }, 0);
    expect(status()).toBe("Recorded run, shown while the model loads · Loading the scenes model");
    host.fromKernel({ status: "running", _notice: "" });
    await settled();
    expect(cell.textContent).toContain("Recorded run");
    host.deliver(runContent("r2", 20));
    host.deliver(stepContent(0, 21, "r2"), stepBuffers());
    await settled();
    expect(cell.textContent).not.toContain("Recorded run");
  });

  it("when it is done, stopped, failed, or the kernel is gone", async () => {
    await open();
    const end = { type: "end", run: "r1", seq: 20, steps: 4, seconds: 1.234 };
    host.deliver({ ...end, state: "done", error: null });
    await settled();
    expect(status()).toBe("Done in 1.2 s");
    host.fromKernel({ status: "failed", error: "RuntimeError: <b>broken</b>" });
    host.deliver({ ...end, seq: 21, state: "failed", steps: 3, error: "x" });
    await settled();
    expect(status()).toBe("Failed at step 4 of 4");
    expect(query(".dv-failure strong").textContent).toBe("The run failed");
    expect(query(".dv-failure p").textContent).toBe("RuntimeError: <b>broken</b>");
    host.fromKernel({ error: "Step 4 of 4 failed: correct the cause and run again.\nRuntimeError: a\nb" });
    await settled();
    expect(query(".dv-failure strong").textContent).toBe("Step 4 of 4 failed: correct the cause and run again.");
    expect(query(".dv-failure p").textContent).toBe("RuntimeError: a\nb");
    host.connect(false);
    await settled();
    expect(status()).toMatch(/No kernel/);
    expect(byId<HTMLButtonElement>("run").disabled).toBe(true);
    press(byId("slider"), "Home");
    expect(byId("slider").getAttribute("aria-valuenow")).toBe("1");
  });

  it("when the kernel refuses", async () => {
    await open();
    host.deliver({ type: "error", run: null, seq: 30, message: "steps must be from 1 to 1000" });
    await settled();
    expect(status()).toBe("steps must be from 1 to 1000");
  });
});

describe("the stage", () => {
  const choose = (name: string) =>
    [...cell.querySelectorAll<HTMLButtonElement>(".dv-stage-bar button")].find((b) => b.textContent === name)?.click();

  it("shows what the last step changed, and says that the first has none before it", async () => {
    await open();
    choose("Change");
    await settled();
    await vi.waitFor(() => expect(query(".dv-bar").textContent).toMatch(/^change of 255/));
    expect(query('[role="img"]').getAttribute("aria-label")).toContain("Change at step 4 of 4");
    press(byId("slider"), "Home");
    await settled();
    expect(query(".dv-bars").textContent).toBe("There is no step before the first one");
  });

  it("has contour lines until they are switched off", async () => {
    await open();
    const contours = query('[aria-label="Contour lines"]');
    expect(contours.getAttribute("aria-pressed")).toBe("true");
    contours.click();
    await settled();
    expect(contours.getAttribute("aria-pressed")).toBe("false");
  });
});

describe("models of other kinds", () => {
  it("say in one sentence that there are no word maps, and show the rest", async () => {
    await open({}, 0);
    host.deliver(runContent("r1", 0, { grid: [0, 0] }));
    for (const index of [0, 1]) {
      const maps = { shape: [5, 0, 0], scales: [null, null, null, null, null] };
      host.deliver(stepContent(index, index + 1, "r1", { maps }), [new Uint8Array([0x52]), new Uint8Array()]);
    }
    await settled();
    expect(query(".dv-maps").textContent).toContain("cannot be recorded, so there are no heat maps.");
    expect(cell.querySelector(".dv-tile, .dv-bar, .dv-opacity")).toBeNull();
    expect(cell.querySelector(".dv-bars")?.textContent).toBe("");
    expect([...cell.querySelectorAll<HTMLButtonElement>(".dv-chip-text")].every((chip) => chip.disabled)).toBe(true);
    expect(byId("slider").getAttribute("aria-valuetext")).toBe("Step 2 of 4, t = 749");
    expect(query(".dv-step").textContent).toContain("step 2 / 4");
  });

  it("have their words once for each text encoder, and the same one stays chosen in the next run", async () => {
    const streams = (order: readonly string[]) =>
      order.flatMap((encoder) => [WORDS[2], WORDS[3]].map((word) => ({ ...word, encoder })));
    await open({}, 0);
    host.deliver(runContent("r1", 0, { words: streams(["CLIP", "T5"]) }));
    const maps = { shape: [4, 2, 2], scales: [[0, 1], [0, 1], [0, 1], null] };
    const buffers = () => [new Uint8Array([0x52]), new Uint8Array(16)];
    host.deliver(stepContent(0, 1, "r1", { maps }), buffers());
    await settled();
    expect([...cell.querySelectorAll(".dv-chips .dv-encoder")].map((name) => name.textContent)).toEqual(["CLIP", "T5"]);
    byId("chip-2").click();
    await settled();
    expect(query(".dv-bar-name").textContent).toBe("red (T5)");
    host.deliver(runContent("r2", 2, { words: streams(["T5", "CLIP"]) }));
    host.deliver(stepContent(0, 3, "r2", { maps }), buffers());
    await settled();
    expect(query(".dv-bar-name").textContent).toBe("red (T5)");
    expect(byId("chip-0").getAttribute("aria-pressed")).toBe("true");
  });

  it("are the refined ones where a run has them, and the attention itself a click away", async () => {
    await open({}, 0);
    host.deliver(runContent());
    const refined = { shape: [5, 2, 2], scales: [[0, 2], [0, 3], [0, 4], [0.5, 8], null] };
    host.deliver(stepContent(0, 1, "r1", { refined }), [...stepBuffers(), new Uint8Array(20)]);
    await settled();
    byId("chip-3").click();
    await settled();
    const ends = () => [...cell.querySelectorAll(".dv-bar .dv-num")].map((end) => end.textContent);
    expect(byId("map-kind").textContent).toBe("refined");
    expect(ends()).toEqual(["0.50×", "8.00×"]);
    expect(byId("map-3").textContent).toContain("peak 8×");
    byId("map-kind").click();
    await settled();
    expect(byId("map-kind").textContent).toBe("attention");
    expect(ends()).toEqual(["0.10", "0.40"]);
    expect(byId("map-3").textContent).toContain("0.40");
  });

  it("have no second kind in a run without refined maps", async () => {
    await open();
    byId("chip-3").click();
    await settled();
    expect(cell.querySelector('[data-testid="map-kind"]')).toBeNull();
  });

  it("say of a word without a map that it was not recorded, and give no number", async () => {
    await open({}, 0);
    host.deliver(runContent());
    host.deliver(
      stepContent(0, 1, "r1", { maps: { shape: [5, 2, 2], scales: [[0, 1], [0, 1], null, [0, 1], null] } }),
      stepBuffers(),
    );
    await settled();
    expect(byId("map-2").textContent).toBe("rednot recorded");
    byId("chip-2").click();
    await settled();
    expect(query(".dv-bar").textContent).toBe("rednot recorded");
  });
});

it("shows markup in prompts, words, concepts and errors as text", async () => {
  const evil = "<img src=x onerror=alert(1)>";
  await open({ prompt: evil, concepts: [evil], status: "failed", error: evil }, 0);
  host.deliver(
    runContent("r1", 0, { prompt: evil, words: WORDS.map((word) => ({ ...word, text: evil, kind: "word" })) }),
  );
  host.deliver(stepContent(0), stepBuffers());
  host.deliver(scoresContent(0, [[0.3]], { concepts: [evil], share: null, emergence: [0] }));
  await settled();
  expect(cell.querySelector("img")).toBeNull();
  expect(query(".dv-failure p").textContent).toBe(evil);
  expect(byId("chip-1").textContent).toContain(evil);
  expect(query(".dv-meter-name").textContent).toBe(evil);
});

it("takes itself out again", async () => {
  await open();
  host.controller.abort();
  expect(cell.childElementCount).toBe(0);
});

describe("the theme", () => {
  it.each([
    ["data-jp-theme-light", "false", "dark"],
    ["data-jp-theme-light", "true", "light"],
    ["class", "vscode-dark", "dark"],
    ["class", "vscode-high-contrast-light", "light"],
    ["data-theme", "dark", "dark"],
  ])("follows %s=%j on the page, also when it changes", async (name, value, theme) => {
    document.body.setAttribute(name, value);
    await open({}, 0);
    expect(query(".dv").dataset.theme).toBe(theme);
    document.body.removeAttribute(name);
    await settled();
    expect(query(".dv").dataset.theme).toBe("light");
  });
});

describe("an approximate image", () => {
  it("is called a preview until the decoded one is there", async () => {
    await open();
    const tag = () => query('[data-testid="stage"]').querySelector(".dv-preview")?.textContent;
    expect(tag()).toBe("preview");
    host.deliver({ type: "frame", run: "r1", seq: 20, index: 3, exact: true }, [new Uint8Array([0x52, 9])]);
    await settled();
    expect(tag()).toBeUndefined();
    press(byId("slider"), "Home");
    await settled();
    expect(tag()).toBe("preview");
  });
});
