// Which thumbnails are requested, and which are kept.

import { expect, test } from "vitest";
import { Thumbnails } from "../../src/study/thumbnails";

const image = new Uint8Array([1, 2, 3]);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, k) => from + k);

test("only one request is on its way, and the next one is for what is on the page then", () => {
  const requests: number[][] = [];
  let arrivals = 0;
  const thumbnails = new Thumbnails(
    (rows) => requests.push([...rows]),
    () => arrivals++,
  );
  thumbnails.want([1, 2, 3]);
  thumbnails.want([10, 11]);
  thumbnails.want([3, 20]);
  expect(requests).toEqual([[1, 2, 3]]);
  thumbnails.receive([1, 2, 3], [image, image, image]);
  expect(requests).toEqual([[1, 2, 3], [20]]);
  expect(arrivals).toBe(1);
  expect(thumbnails.url(3)).toMatch(/^blob:/);
  expect(thumbnails.url(10)).toBeUndefined();
});

test("a row without an image is not requested again", () => {
  const requests: number[][] = [];
  const thumbnails = new Thumbnails(
    (rows) => requests.push([...rows]),
    () => {},
  );
  thumbnails.want([4]);
  thumbnails.receive([4], [new Uint8Array()]);
  thumbnails.want([4]);
  expect(requests).toEqual([[4]]);
  expect(thumbnails.url(4)).toBe("");
});

test("an error frees the way for the next request", () => {
  const requests: number[][] = [];
  const thumbnails = new Thumbnails(
    (rows) => requests.push([...rows]),
    () => {},
  );
  thumbnails.want([1]);
  thumbnails.failed();
  thumbnails.want([2]);
  expect(requests).toEqual([[1], [2]]);
});

test("of very many thumbnails those are let go that were on the page longest ago", () => {
  const thumbnails = new Thumbnails(
    () => {},
    () => {},
  );
  for (let start = 0; start < 2000; start += 100) {
    thumbnails.want([...range(0, 5), ...range(start, start + 100)]);
    const rows = range(start, start + 100);
    thumbnails.receive(
      rows,
      rows.map(() => image),
    );
  }
  expect(thumbnails.url(0)).toMatch(/^blob:/); // it was always on the page
  expect(thumbnails.url(100)).toBeUndefined();
  expect(thumbnails.url(1999)).toMatch(/^blob:/);
});
