// An image that labels itself: which words, and where they are written.

import { describe, expect, it } from "vitest";
import type { Range, Word } from "../../src/core/protocol";
import { contentWords, placeLabels } from "../../src/stage/labels";

const word = (text: string, over: Partial<Word> = {}): Word => ({
  text,
  token_texts: [text],
  kind: "word",
  unknown: false,
  encoder: "",
  ...over,
});
const scales = (count: number): (Range | null)[] => new Array(count).fill([0, 1]);

describe("the words that name something", () => {
  it("are neither function words nor special tokens", () => {
    const words = ["<start>", "A", "red", "circle", "above", "the", "small", "house,", ","].map((text, i) =>
      word(text, i === 0 ? { kind: "special" } : {}),
    );
    const names = contentWords(words, scales(words.length)).map((index) => words[index]?.text);
    expect(names).toEqual(["red", "circle", "house,"]);
  });

  it("have a map, and belong to the first text encoder with maps", () => {
    const words = [
      word("tree", { encoder: "clip" }),
      word("tree", { encoder: "t5" }),
      word("house", { encoder: "t5" }),
    ];
    expect(contentWords(words, scales(3))).toEqual([0]);
    expect(contentWords(words, [null, [0, 1], [0, 1]])).toEqual([1, 2]);
    expect(contentWords(words, [null, null, null])).toEqual([]);
  });
});

describe("labels", () => {
  const frame = { x: 0, y: 0, width: 200, height: 100 };

  it("stand centred on their points", () => {
    expect(placeLabels([{ x: 50, y: 50, width: 40, height: 20 }], frame)).toEqual([
      { x: 30, y: 40, width: 40, height: 20 },
    ]);
  });

  it("stay inside the frame, and never overlap; what finds no place is left out", () => {
    const wanted = Array.from({ length: 9 }, () => ({ x: 195, y: 3, width: 60, height: 20 }));
    const places = placeLabels(wanted, frame).flatMap((place) => place ?? []);
    expect(places.length).toBeGreaterThan(2);
    expect(places.length).toBeLessThan(9);
    for (const { x, y, width, height } of places) {
      expect(x).toBeGreaterThanOrEqual(0);
      expect(y).toBeGreaterThanOrEqual(0);
      expect(x + width).toBeLessThanOrEqual(200);
      expect(y + height).toBeLessThanOrEqual(100);
    }
    for (const [i, a] of places.entries())
      for (const b of places.slice(i + 1)) expect(Math.abs(a.y - b.y)).toBeGreaterThanOrEqual(20);
  });
});
