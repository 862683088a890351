// What a place attends to: the kernel's reply, and the rows that an offline page holds.

import { expect, it } from "vitest";
import { middleOf, readAttention } from "../../../src/drawers/places/attention";
import { attentionAt, type Stored } from "../../../src/drawers/places/stored";

const view = (values: readonly number[]) => new DataView(Uint8Array.from(values).buffer);
const map = { grid: [1, 2], scale: [0, 0.5], share: 0.25 };
const content = { maps: [map, { ...map, grid: [2, 1] }], place: [0, 0.5, 1, 1], words: 0.5, references: 1 };

it("cuts maps and reference images out of the reply", () => {
  const { words, place, images } = readAttention({ content, buffers: [view([0, 255, 3, 4]), view([7])] }, "r1", 2);
  expect([words, place]).toEqual([0.5, [0, 0.5, 1, 1]]);
  expect(images.map(({ maps, share, image }) => [[...maps.data], share, image && [...image]])).toEqual([
    [[0, 255], 0.25, null],
    [[3, 4], 0.25, [7]],
  ]);
});

it.each([
  [content, [0, 255, 3]],
  [{ ...content, place: [0, 1] }, [0, 255, 3, 4]],
  [{ ...content, words: "many" }, [0, 255, 3, 4]],
])("refuses bytes and fields that do not fit: %j %j", (fields, bytes) => {
  expect(() => readAttention({ content: fields, buffers: [view(bytes), view([7])] }, "r1", 2)).toThrow();
});

it("asks for the middle of a region", () => {
  expect(middleOf({ u0: 0.25, v0: 0, u1: 0.75, v1: 0.5 })).toEqual([0.25, 0.5]);
});

// 0.25 is 0x3400 in half precision, 0.5 is 0x3800, 2 ** -24 (the smallest one) is 1.
const stored: Stored = {
  steps: [3],
  grids: [
    [1, 2],
    [1, 1],
  ],
  rows: Uint16Array.from([0x3400, 0x3800, 1, 0x3800, 0x3400, 0x3400]),
  images: [Uint8Array.of(9)],
};

it("reads the row of a place", () => {
  const attention = attentionAt(stored, "r1", 3, [0.5, 0.75]);
  expect(attention?.place).toEqual([0, 0.5, 1, 1]);
  expect(attention?.words).toBeNull(); // the row sums to 1
  expect(attention?.images.map(({ maps }) => maps.scales[0])).toEqual([
    [0.25, 0.5],
    [0.25, 0.25],
  ]);
  const first = attentionAt(stored, "r1", 3, [0, 0]);
  expect(first?.images[0]?.share).toBe(0.75);
  expect(first?.images[1]?.share).toBe(2 ** -24);
  expect(first?.images[1]?.image).toEqual(Uint8Array.of(9));
  expect(first?.words).toBeCloseTo(0.25);
});

it("has nothing of other steps, and takes the last position at the border", () => {
  expect(attentionAt(stored, "r1", 2, [0, 0])).toBeNull();
  expect(attentionAt(stored, "r1", 3, [1, 1])?.place).toEqual([0, 0.5, 1, 1]);
});
