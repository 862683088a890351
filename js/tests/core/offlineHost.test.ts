// @vitest-environment happy-dom
// The host of the offline page: sends its run, replies with what it holds, and refuses the rest.

import "../setup";
import { expect, it } from "vitest";
import type { Traits } from "../../src/core/host";
import { createOfflineHost } from "../../src/core/offlineHost";
import { unpack } from "../../src/core/packedRun";
import type { Message } from "../../src/core/protocol";
import { bytes } from "../../src/core/readers";
import { Session } from "../../src/core/session";
import { PROMPT, runContent, stepBuffers, stepContent } from "../host";

const LAYERS = { type: "layers", id: 0, run: "r1", step: 1, word: 2, maps: [] };
const SCORES = {
  ...{ type: "scores", run: "r1", start: 0, concepts: ["red", "circle"], meter: null, share: null },
  ...{ cosine: [[0.1, 0.2]], null_band: [[0, 0.1]], emergence: [null, null] },
};

function message(content: unknown, buffers: readonly ArrayBufferView[] = []): Message {
  return { content, buffers };
}

function end(run: string, state: string): Message {
  return message({ type: "end", run, state, steps: 1, error: null, seconds: 0 });
}

function session(traits: Partial<Traits> = {}): Session {
  const host = createOfflineHost(
    [
      message(runContent("r0", 0, { prompt: "another" })),
      message(stepContent(0, 1, "r0"), stepBuffers()),
      end("r0", "stopped"),
      message(runContent("r1", 0)),
      message(stepContent(0), stepBuffers()),
      message(stepContent(1), stepBuffers()),
      message(SCORES),
      end("r1", "done"),
      message(LAYERS, [new Uint8Array(0)]),
    ],
    { prompt: PROMPT, status: "done", concepts: ["red", "circle"], ...traits },
    new AbortController().signal,
  );
  return new Session(host);
}

it("has the whole run at once, and can run nothing", () => {
  const { store, traits, connected } = session({ _can_run: true });
  expect(store.shown.value?.info.run).toBe("r1");
  expect(store.shown.value?.count.value).toBe(2);
  expect(connected.value).toBe(true);
  expect(traits._can_run.value).toBe(false);
});

it("answers what it holds, and says what it does not", async () => {
  const page = session();
  const { content } = await page.ask({ type: "layers", run: "r1", step: 1, word: 2 });
  expect(content).toMatchObject({ step: 1, word: 2, maps: [] });
  await expect(page.ask({ type: "layers", run: "r1", step: 0, word: 2 })).rejects.toThrow("does not hold that");
});

it("hands a run over packed, and shows another one", async () => {
  const page = session();
  const { buffers } = await page.ask({ type: "packed", run: "r0" });
  expect(unpack(bytes(buffers[0], "run"))).toHaveLength(3);
  page.show("r0");
  expect(page.store.shown.value?.info.run).toBe("r0");
  expect(page.traits.prompt.value).toBe("another");
  expect(page.traits.status.value).toBe("stopped");
  expect(page.traits.concepts.value).toEqual([]);
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

it("offers only what it holds", () => {
  const page = session();
  const kinds = ["layers", "saliency", "relevance", "decisions", "notes"] as const;
  expect(kinds.map((type) => page.canAsk(type))).toEqual([true, false, false, false, false]);
  expect([page.canAsk("runs"), page.canAsk("packed")]).toEqual([true, true]);
  const note = { text: "Look", step: 0, words: [], region: null };
  const alone = createOfflineHost(
    [message(runContent("r1", 0, { notes: [note] })), end("r1", "done")],
    {},
    new AbortController().signal,
  );
  expect(["runs", "packed", "notes"].map((type) => alone.canAnswer?.(type as "runs"))).toEqual([false, false, true]);
});
