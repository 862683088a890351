// Expectations of notes: the outcomes of Python, which tests/golden/write_expectations.py writes.

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { Expects } from "../../../src/core/protocol";
import { type ConceptFacts, evaluate, type RunFacts } from "../../../src/drawers/notes/expectations";
import { halfShare } from "../../../src/drawers/notes/runFacts";

type Series = readonly (number | null)[];

interface GoldenRun {
  readonly is_finished: boolean;
  readonly prompt: string;
  readonly seed: number | null;
  readonly steps: number;
  readonly guidance: number | null;
  readonly schedule: string;
  readonly weights: Readonly<Record<string, number | null>>;
  readonly other_runs: readonly (readonly [string, number | null])[];
  readonly concepts: Readonly<Record<string, ConceptFacts>>;
  readonly maps: Readonly<Record<string, Readonly<Record<string, Series>>>>;
}

interface Golden {
  readonly runs: Readonly<Record<string, GoldenRun>>;
  readonly cases: readonly {
    readonly run: string;
    readonly expects: Expects;
    readonly met: boolean;
    readonly reason: string;
  }[];
  readonly halves: readonly ({
    readonly height: number;
    readonly width: number;
    readonly scale: readonly [number, number];
    readonly data: readonly number[];
  } & Readonly<Record<"left" | "right" | "top" | "bottom", number>>)[];
}

const golden = JSON.parse(
  readFileSync(new URL("../../../../tests/golden/expectations.json", import.meta.url), "utf8"),
) as Golden;

function factsOf(name: string): RunFacts {
  const { is_finished, other_runs, concepts, maps, ...run } = golden.runs[name] as GoldenRun;
  return {
    ...run,
    isFinished: is_finished,
    otherRuns: other_runs.map(([prompt, seed]) => ({ prompt, seed })),
    concept: (concept) => concepts[concept] ?? null,
    halfOfMap: (word, half) => maps[word]?.[half] ?? null,
  };
}

it("are met, or not, as in Python, for the same reason", () => {
  expect(golden.cases.length).toBeGreaterThan(80);
  for (const { run, expects, met, reason } of golden.cases)
    expect([expects.text, evaluate(expects, factsOf(run))]).toEqual([expects.text, { met, reason }]);
});

it("measure the halves of a map as Python does", () => {
  for (const { height, width, scale, data, ...shares } of golden.halves) {
    const maps = { height, width, scales: [null, scale], data: Uint8Array.from([...data.map(() => 0), ...data]) };
    for (const half of ["left", "right", "top", "bottom"] as const)
      expect(halfShare(maps, [1], half)).toBeCloseTo(shares[half], 12);
    expect(halfShare(maps, [0], "left")).toBeNull();
  }
});

it("of a newer kind are not met, and say so", () => {
  const run = factsOf("circles");
  const number = { name: "number", of: "", half: "", value: 1 };
  const compare = { kind: "compare", left: { ...number, name: "steps" }, operator: ">", right: number, when: "last" };
  expect(evaluate({ text: "", conditions: [compare] }, run).met).toBe(true);
  for (const condition of [
    null,
    "code()",
    { kind: "later" },
    { ...compare, operator: "constructor" },
    { ...compare, left: { ...number, name: "colour" } },
    { ...compare, when: {} },
    { kind: "prompt", phrase: 3, present: true },
  ])
    expect(evaluate({ text: "", conditions: [condition] }, run)).toEqual({
      met: false,
      reason: "this page cannot check that",
    });
  expect(evaluate({ text: "", conditions: [] }, run).met).toBe(false);
});
