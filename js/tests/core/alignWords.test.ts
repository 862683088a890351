// Aligned words of two prompts: as many as possible match, in order.

import { expect, it } from "vitest";
import { alignWords } from "../../src/core/alignWords";

const words = (text: string) => text.split(" ").filter(Boolean);

/** The length of a longest common subsequence, by trying everything. */
function longest(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return 0;
  const [x, ...as] = a;
  const [y, ...bs] = b;
  return x === y ? 1 + longest(as, bs) : Math.max(longest(as, b), longest(a, bs));
}

it.each([
  ["a red circle", "a red circle"],
  ["a red circle above a blue square", "a small green square above a red circle"],
  ["", "a red circle"],
  ["a a a b", "b a a"],
  ["one two three four", "four three two one"],
])("%s | %s", (first, second) => {
  const [a, b] = [words(first), words(second)];
  const pairs = alignWords(a, b);
  expect(pairs).toHaveLength(longest(a, b));
  for (const [i, j] of pairs) expect(a[i]).toBe(b[j]);
  for (const at of [0, 1] as const) {
    const places = pairs.map((pair) => pair[at]);
    expect(places).toEqual([...new Set(places)].sort((x, y) => x - y));
  }
});

it("does not mind case", () => {
  expect(alignWords(["A", "Red"], ["a", "red"])).toEqual([
    [0, 0],
    [1, 1],
  ]);
});
