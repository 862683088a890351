import { expect, it } from "vitest";
import { coloursOf, FADE, fadedGradient, gradient, lookup, wordColours } from "../../src/core/colormap";

function lightness(word: number): number {
  const linear = [0, 8, 16].map((shift) => {
    const c = ((word >>> shift) & 255) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  const y = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return y > 0.008856 ? 116 * Math.cbrt(y) - 16 : 903.3 * y;
}

it.each(["viridis", "magma"] as const)("%s gets lighter evenly from end to end", (name) => {
  const light = Array.from(lookup(name), lightness);
  const span = (light[255] ?? 0) - (light[0] ?? 0);
  expect(span).toBeGreaterThan(70);
  for (let i = 32; i < 256; i += 32) {
    const rise = (light[i] ?? 0) - (light[i - 32] ?? 0);
    expect(rise).toBeGreaterThan((span / 8) * 0.6);
    expect(rise).toBeLessThan((span / 8) * 1.5);
  }
});

it("is written for image data: viridis ends in opaque yellow", () => {
  const bytes = new Uint8Array(Uint32Array.of(lookup("viridis")[255] ?? 0).buffer);
  expect([...bytes]).toEqual([0xfd, 0xe7, 0x25, 0xff]);
  expect(gradient("viridis")).toContain("rgb(253 231 37)");
});

it("fades to nothing at the low end, and keeps medium values visible", () => {
  expect([FADE[0], FADE[255]]).toEqual([0, 1]);
  expect(FADE[128]).toBeCloseTo((128 / 255) ** 0.6);
  const bar = fadedGradient(coloursOf("viridis"));
  expect(bar).toMatch(/^linear-gradient\(90deg,rgb\(68 1 84\/0\.00\)/);
  expect(bar).toMatch(/rgb\(253 231 37\/1\.00\)\)$/);
});

// The same cases as in tests/traces/test_colormap.py: figures and the page agree.
it.each([
  [
    ["circle", "square"],
    ["e69f00", "56b4e9"],
  ],
  [
    ["blue", "square", "ball"],
    ["2f6fdb", "e69f00", "cc79a7"],
  ],
  [
    ["a Red circle,", "star", "red"],
    ["d03a30", "e69f00", "56b4e9"],
  ],
  [
    ["window", "tomato"],
    ["e69f00", "56b4e9"],
  ],
  [
    ["red and blue", "sky"],
    ["e69f00", "56b4e9"],
  ],
  [
    ["red", "yellow", "green", "blue", "pink", "one", "two"],
    ["d03a30", "c9a200", "2f9e44", "2f6fdb", "e0609a", "e69f00", "56b4e9"],
  ],
])("gives colour words their own colour, and the others one unlike those: %j", (texts, colours) => {
  const hex = wordColours(texts).map((rgb) => rgb.map((part) => part.toString(16).padStart(2, "0")).join(""));
  expect(hex).toEqual(colours);
});
