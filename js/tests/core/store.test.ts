import { describe, expect, it } from "vitest";
import { decode } from "../../src/core/protocol";
import { RunStore } from "../../src/core/store";
import { runContent, scoresContent, stepBuffers, stepContent } from "../host";

const message = (content: object, buffers: readonly ArrayBufferView[] = []) => decode({ content, buffers });
const step = (index: number, over: object = {}, mark = 1) =>
  message(stepContent(index, 1, "r1", over), stepBuffers(mark));

function begun(): RunStore {
  const store = new RunStore();
  store.feed(message(runContent()));
  return store;
}

describe("steps", () => {
  it("arrive in any order and are counted once", () => {
    const store = begun();
    for (const index of [2, 0, 2, 0]) expect(store.feed(step(index))).toBe(true);
    const run = store.shown.value;
    expect(run?.count.value).toBe(2);
    expect(run?.latest.value).toBe(2);
    expect(run?.receivedSteps()).toEqual([0, 2]);
    expect(run?.nearest(1)?.index).toBe(0);
    expect(run?.nearest(3)?.index).toBe(2);
  });

  it("are replaced by a later arrival, but never an exact image by a preview", () => {
    const store = begun();
    store.feed(step(0, { exact: false }, 1));
    store.feed(step(0, { exact: true }, 2));
    store.feed(step(0, { exact: false }, 3));
    const shown = store.shown.value?.steps[0];
    expect(shown?.exact).toBe(true);
    expect(shown?.images.prediction?.[1]).toBe(2);
  });

  it("take an exact noisy image, which a late preview does not replace", () => {
    const store = begun();
    store.feed(step(0, { exact: true, previews: ["latents"] }, 1));
    const frame = { type: "frame", run: "r1", seq: 5, index: 0, exact: true, view: "latents" };
    store.feed(message(frame, [new Uint8Array([7, 7])]));
    store.feed(step(0, { exact: true, previews: ["latents"] }, 2));
    expect(store.shown.value?.steps[0]).toMatchObject({
      previews: [],
      images: { prediction: new Uint8Array([0x52, 2]), latents: new Uint8Array([7, 7]) },
    });
  });

  it("take an exact frame", () => {
    const store = begun();
    store.feed(step(0));
    const frame = { type: "frame", run: "r1", seq: 5, index: 0, exact: true };
    expect(store.feed(message(frame, [new Uint8Array([7, 7])]))).toBe(true);
    expect(store.shown.value?.steps[0]).toMatchObject({ exact: true, images: { prediction: new Uint8Array([7, 7]) } });
  });

  it("that belong to nothing here are reported", () => {
    const store = begun();
    expect(store.feed(message(stepContent(0, 1, "elsewhere"), stepBuffers()))).toBe(false);
    expect(store.feed(message({ type: "frame", run: "r1", seq: 5, index: 3, exact: true }, [new Uint8Array(1)]))).toBe(
      false,
    );
  });
});

describe("runs", () => {
  it("replace the one shown only with their first step", () => {
    const store = begun();
    store.feed(step(0));
    store.feed(message(runContent("r2", 9)));
    expect(store.shown.value?.info.run).toBe("r1");
    expect(store.pending.value?.info.run).toBe("r2");
    store.feed(message(stepContent(0, 10, "r2"), stepBuffers()));
    expect(store.shown.value?.info.run).toBe("r2");
    expect(store.pending.value).toBeNull();
  });

  it("that begin twice lose nothing", () => {
    const store = begun();
    store.feed(step(0));
    store.feed(message(runContent("r1", 7)));
    expect(store.shown.value?.count.value).toBe(1);
  });

  it("that end before their first step leave the previous one", () => {
    const store = begun();
    store.feed(step(0));
    store.feed(message(runContent("r2", 9)));
    store.feed(message({ type: "end", run: "r2", seq: 10, state: "failed", steps: 0, error: "no", seconds: 0 }));
    expect(store.pending.value).toBeNull();
    expect(store.shown.value?.info.run).toBe("r1");
  });

  it("say at their end whether steps are missing", () => {
    const end = message({ type: "end", run: "r1", seq: 10, state: "done", steps: 2, error: null, seconds: 1 });
    const store = begun();
    store.feed(step(0));
    expect(store.feed(end)).toBe(false);
    store.feed(step(1));
    expect(store.feed(end)).toBe(true);
  });

  it("keep the planned length while they go on, and have the real one at the end", () => {
    const store = begun();
    store.feed(step(0));
    expect(store.shown.value?.length).toBe(4);
    store.feed(message({ type: "end", run: "r1", seq: 10, state: "done", steps: 3, error: null, seconds: 1 }));
    expect(store.shown.value?.length).toBe(3);
  });
});

describe("scores", () => {
  it("fill in by row, and start anew when the concepts change", () => {
    const store = begun();
    store.feed(message(scoresContent(0, [[0.1, 0.2]])));
    store.feed(message(scoresContent(2, [[0.3, null]])));
    const scores = () => store.shown.value?.scores.value;
    expect(scores()?.cosine).toEqual([[0.1, 0.2], undefined, [0.3, null]]);
    expect(scores()?.null_band[2]).toEqual([0.1, 0.2]);
    store.feed(message(scoresContent(1, [[0.5]], { concepts: ["tree"], share: null, emergence: [null] })));
    expect(scores()?.cosine[0]).toBeUndefined();
    expect(scores()?.cosine[1]).toEqual([0.5]);
    expect(scores()?.share).toBeNull();
  });
});

it("keeps what the kernel refused until the next run", () => {
  const store = begun();
  store.feed(message({ type: "error", run: null, seq: 3, message: "steps must be at least 1" }));
  expect(store.refused.value).toBe("steps must be at least 1");
  store.feed(message(runContent("r2", 4)));
  expect(store.refused.value).toBe("");
});
