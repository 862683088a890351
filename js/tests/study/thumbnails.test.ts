// Which thumbnails are requested, and which are kept.
// @vitest-environment happy-dom

import { expect, test } from "vitest";
import { Thumbnails } from "../../src/study/thumbnails";

const data = new Uint8Array([1, 2, 3]);
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, k) => from + k);

function recorded() {
  const requests: number[][] = [];
  const thumbnails = new Thumbnails(
    (rows) => requests.push([...rows]),
    async () => document.createElement("img"),
  );
  return { requests, thumbnails };
}

test("only one request is on its way, and the next one is for what is on the page then", async () => {
  const { requests, thumbnails } = recorded();
  const arrivals: number[][] = [];
  thumbnails.watch((rows) => arrivals.push([...rows]));
  thumbnails.want([1, 2, 3]);
  thumbnails.want([10, 11]);
  thumbnails.want([3, 20]);
  expect(requests).toEqual([[1, 2, 3]]);
  await thumbnails.receive([1, 2, 3], [data, data, data]);
  expect(requests).toEqual([[1, 2, 3], [20]]);
  expect(arrivals).toEqual([[1, 2, 3]]);
  expect(thumbnails.image(3)).toBeInstanceOf(HTMLImageElement);
  expect(thumbnails.image(10)).toBeUndefined();
});

test("a row without an image, and one whose image cannot be read, are not requested again", async () => {
  const requests: number[][] = [];
  const thumbnails = new Thumbnails(
    (rows) => requests.push([...rows]),
    () => Promise.reject(new Error("no WebP")),
  );
  thumbnails.want([4, 5]);
  await thumbnails.receive([4, 5], [new Uint8Array(), data]);
  thumbnails.want([4, 5]);
  expect(requests).toEqual([[4, 5]]);
  expect([thumbnails.image(4), thumbnails.image(5)]).toEqual(["", ""]);
});

test("an error frees the way for the next request", () => {
  const { requests, thumbnails } = recorded();
  thumbnails.want([1]);
  thumbnails.failed();
  thumbnails.want([2]);
  expect(requests).toEqual([[1], [2]]);
});

test("of very many thumbnails those are let go that were on the page longest ago", async () => {
  const { thumbnails } = recorded();
  for (let start = 0; start < 2000; start += 100) {
    thumbnails.want([...range(0, 5), ...range(start, start + 100)]);
    const rows = range(start, start + 100);
    await thumbnails.receive(
      rows,
      rows.map(() => data),
    );
  }
  expect(thumbnails.image(0)).toBeInstanceOf(HTMLImageElement); // it was always on the page
  expect(thumbnails.image(100)).toBeUndefined();
  expect(thumbnails.image(1999)).toBeInstanceOf(HTMLImageElement);
});
