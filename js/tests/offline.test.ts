// @vitest-environment happy-dom
// The host of the offline page: it tells its run when asked, answers what it holds, and says of the rest that it does not.

import "./setup";
import { expect, it } from "vitest";
import type { Traits } from "../src/core/host";
import { offline } from "../src/core/offline";
import type { Message } from "../src/core/protocol";
import { Session } from "../src/core/session";
import { PROMPT, runContent, stepBuffers, stepContent } from "./host";

const LAYERS = { type: "layers", id: 0, run: "r1", step: 1, word: 2, maps: [] };

function message(content: unknown, buffers: readonly ArrayBufferView[] = []): Message {
  return { content, buffers };
}

function session(traits: Partial<Traits> = {}): Session {
  const told = [
    message(runContent("r1", 0)),
    message(stepContent(0), stepBuffers()),
    message(stepContent(1), stepBuffers()),
  ];
  const host = offline(
    [...told, message(LAYERS, [new Uint8Array(0)])],
    { prompt: PROMPT, status: "done", concepts: ["red", "circle"], ...traits },
    new AbortController().signal,
  );
  return new Session(host);
}

it("has the whole run at once, and can run nothing", () => {
  const { store, traits, connected } = session({ _can_run: true });
  expect(store.shown.value?.count.value).toBe(2);
  expect(connected.value).toBe(true);
  expect(traits._can_run.value).toBe(false);
});

it("answers what it holds, and says what it does not", async () => {
  const page = session();
  const { content } = await page.ask({ type: "layers", run: "r1", step: 1, word: 2 });
  expect(content).toMatchObject({ step: 1, word: 2, maps: [] });
  await expect(page.ask({ type: "layers", run: "r1", step: 0, word: 2 })).rejects.toThrow("layers=True");
});

it("keeps to the concepts that were measured", () => {
  const page = session();
  page.set({ concepts: ["circle", "blue"] });
  expect(page.traits.concepts.value).toEqual(["circle"]);
  expect(page.traits._notice.value).toContain("scores of its own concepts");
  page.set({ concepts: ["circle", "red"] });
  expect(page.traits.concepts.value).toEqual(["circle", "red"]);
  expect(page.traits._notice.value).toBe("");
});
