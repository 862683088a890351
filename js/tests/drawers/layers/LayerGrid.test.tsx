// @vitest-environment happy-dom
// The grid of layers and heads: requested when it opens, one request at a time, with refusals shown.

import "../../setup";
import { afterEach, beforeEach, expect, it } from "vitest";
import { mount } from "../../../src/app/mount";
import { layerNames } from "../../../src/drawers/layers/layerNames";
import { SOURCE } from "../../drawerSource";
import { runContent, stepBuffers, stepContent, TestHost } from "../../host";

let host: TestHost;
let cell: HTMLElement;

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const query = (selector: string) => cell.querySelector(selector) as HTMLElement;
const tiles = () => [...cell.querySelectorAll<HTMLElement>('[aria-label="Heat maps of the layers"] .dv-tile')];
const text = (selector: string) => tiles().map((tile) => tile.querySelector(selector)?.textContent);
const requests = () => host.of("layers").map(({ step, word }) => [step, word]);

/** Two layers of two heads, on grids of 2 x 2 and 1 x 1; the last map was not recorded. */
function answer(over: object = {}): void {
  const { id, run, step, word } = host.of("layers").at(-1) ?? { id: 0, run: "", step: 0, word: 0 };
  const map = (layer: string, head: number, n: number, focus: number | null) => ({
    layer,
    head,
    grid: [n, n],
    scale: focus === null ? null : [0, 0.5],
    focus,
  });
  const maps = [map("down.0", 0, 2, 0.1), map("down.0", 1, 2, 0.6), map("mid", 0, 1, 0.3), map("mid", 1, 1, null)];
  const data = Uint8Array.from([0, 0, 0, 255, 255, 0, 0, 0, 128, 0]);
  host.deliver({ type: "layers", run, seq: 50, id, step, word, maps, ...over }, [data]);
}

beforeEach(async () => {
  host = new TestHost({ prompt: "a red weathervane lost", status: "done", _can_run: true, steps: 4 });
  cell = document.createElement("div");
  document.body.append(cell);
  mount(host, cell, SOURCE);
  host.deliver(runContent("r1", 0, { layers: [{}, {}] }));
  for (let i = 0; i < 4; i++) host.deliver(stepContent(i), stepBuffers());
  await settled();
});

afterEach(() => {
  host.controller.abort();
  cell.remove();
});

async function open(word = 2): Promise<void> {
  query(`[data-testid="chip-${word}"]`).click();
  query('[data-testid="layers"]').click();
  await settled();
}

it("asks for nothing until it is opened and a word is chosen", async () => {
  query('[data-testid="chip-2"]').click();
  await settled();
  query('[data-testid="chip-2"]').click();
  query('[data-testid="layers"]').click();
  await settled();
  expect(requests()).toEqual([]);
  expect(query(".dv-layers").textContent).toContain("Select a word");
  query('[data-testid="chip-3"]').click();
  await settled();
  expect(requests()).toEqual([[3, 3]]);
});

it("shows every head in the order of the network, or by focus", async () => {
  await open();
  answer();
  await settled();
  const rows = [...cell.querySelectorAll(".dv-layer-name")].map((name) => name.textContent);
  expect(rows).toEqual(["down 0", "mid"]);
  expect(tiles().map((tile) => tile.getAttribute("aria-label"))).toEqual([
    "down 0, head 1, peak 0.50",
    "down 0, head 2, peak 0.50",
    "mid, head 1, peak 0.50",
    "mid, head 2, not recorded",
  ]);
  expect(text(".dv-num")).toEqual(["peak 0.50", "peak 0.50", "peak 0.50", "not recorded"]);
  [...cell.querySelectorAll("button")].find((button) => button.textContent === "By focus")?.click();
  await settled();
  expect(text(".dv-tile-name")).toEqual(["down 0, head 2", "mid, head 1", "down 0, head 1", "mid, head 2"]);
});

it("asks one question at a time, and then for what is looked at by then", async () => {
  await open();
  const press = (key: string) =>
    query('[data-testid="slider"]').dispatchEvent(
      new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }),
    );
  press("Home");
  press("ArrowRight");
  await settled();
  expect(requests()).toEqual([[3, 2]]);
  answer();
  await settled();
  expect(requests()).toEqual([
    [3, 2],
    [1, 2],
  ]);
  answer();
  await settled();
  expect(requests()).toHaveLength(2);
});

it("lays a clicked map on the stage, with its own values and its name", async () => {
  await open();
  answer();
  await settled();
  expect(query(".dv-bar").textContent).toBe("red00.20");
  tiles()[0]?.click();
  await settled();
  expect(tiles()[0]?.getAttribute("aria-pressed")).toBe("true");
  expect(query(".dv-bar").textContent).toBe("red, down 0, head 100.50");
  tiles()[0]?.click();
  await settled();
  expect(query(".dv-bar").textContent).toBe("red00.20");
});

it("tells a refusal, and does not ask the same again", async () => {
  await open();
  const { id } = host.of("layers")[0] ?? { id: -1 };
  host.deliver({ type: "error", run: "r1", seq: 60, id, message: "this run is not in the kernel any more" });
  await settled();
  expect(query(".dv-layers").textContent).toContain("not in the kernel any more");
  expect(query('[data-testid="status"]').textContent).not.toContain("not in the kernel");
  expect(requests()).toHaveLength(1);
});

it("takes no answer to a question that it did not ask", async () => {
  await open();
  answer({ id: 99 });
  await settled();
  expect(tiles()).toEqual([]);
});

it.each([
  ["down_blocks.1.attentions.0.transformer_blocks.0.attn2", "down 1, block 0"],
  ["mid_block.attentions.0.transformer_blocks.0.attn2", "mid, block 0"],
  ["up_blocks.2.attentions.1.attn2.processor", "up 2, block 1"],
  ["transformer_blocks.12.attn", "block 12"],
  ["single_transformer_blocks.3.attn", "single block 3"],
  ["layers.3.attn2", "layer 3"],
])("calls %s %s", (layer, name) => expect(layerNames([layer]).get(layer)).toBe(name));

it("tells layers apart that would have the same short name", () => {
  const deep = [0, 1].map((index) => `down_blocks.2.attentions.0.transformer_blocks.${index}.attn2`);
  expect([...layerNames(deep).values()]).toEqual(["down 2, block 0, layer 0", "down 2, block 0, layer 1"]);
  const twins = ["transformer_blocks.0.attn", "transformer_blocks.0.attn2"];
  expect([...layerNames(twins).values()]).toEqual(twins);
});
