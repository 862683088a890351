import { describe, expect, it } from "vitest";
import { Resampler, rescale, sharedRange, valueAt } from "../../src/core/mapSampling";
import type { Maps } from "../../src/core/protocol";

const maps = (width: number, height: number, value: (x: number, y: number) => number): Maps => ({
  width,
  height,
  scales: [[0, 1]],
  data: Uint8Array.from({ length: width * height }, (_, i) => value(i % width, Math.floor(i / width))),
});

describe("resampling", () => {
  it("leaves a map of the same size alone", () => {
    const source = maps(7, 5, (x, y) => (x * 31 + y * 57) % 256);
    expect(Array.from(new Resampler(7, 5).resample(source, 0))).toEqual(Array.from(source.data));
  });

  it("keeps a flat map flat", () => {
    for (const value of new Resampler(40, 24).resample(
      maps(5, 3, () => 90),
      0,
    ))
      expect(value).toBeCloseTo(90, 3);
  });

  it("follows a ramp exactly, away from the border", () => {
    const [from, to] = [12, 96];
    const field = new Resampler(to, to).resample(
      maps(from, from, (x) => x * 20),
      0,
    );
    for (let x = 20; x < 76; x++) {
      const at = ((x + 0.5) * from) / to - 0.5;
      expect(field[40 * to + x]).toBeCloseTo(at * 20, 2);
    }
  });

  it("picks the word's own map, and takes maps of another grid next", () => {
    const raster = new Resampler(4, 4);
    const two: Maps = {
      ...maps(2, 2, () => 0),
      data: Uint8Array.from([0, 0, 0, 0, 200, 200, 200, 200]),
      scales: [
        [0, 1],
        [0, 1],
      ],
    };
    expect(raster.resample(two, 1)[5]).toBeCloseTo(200, 3);
    expect(
      raster.resample(
        maps(3, 3, () => 10),
        0,
      )[5],
    ).toBeCloseTo(10, 3);
  });
});

describe("values", () => {
  const source: Maps = { ...maps(2, 2, (x, y) => (y * 2 + x) * 85), scales: [[0.1, 0.4]] };

  it("are read from the cell under the point", () => {
    expect(valueAt(source, 0, 0.2, 0.2)).toBeCloseTo(0.1);
    expect(valueAt(source, 0, 0.9, 0.2)).toBeCloseTo(0.2);
    expect(valueAt(source, 0, 0.99, 1)).toBeCloseTo(0.4);
  });

  it("are missing where a word has no map", () =>
    expect(valueAt({ ...source, scales: [null] }, 0, 0.5, 0.5)).toBeNull());

  it("keep their meaning on a shared scale", () => {
    const [factor, offset] = rescale([0.1, 0.4], [0, 0.5]);
    for (const byte of [0, 100, 255]) {
      const value = 0.1 + (byte / 255) * 0.3;
      expect(byte * factor + offset).toBeCloseTo((value / 0.5) * 255, 6);
    }
    expect(sharedRange([[0.1, 0.4], null, undefined, [0, 0.2]])).toEqual([0, 0.4]);
    expect(sharedRange([null])).toBeNull();
    expect(rescale([1, 1], [1, 1])).toEqual([0, 0]);
  });
});
