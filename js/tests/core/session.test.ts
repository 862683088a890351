import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { pack } from "../../src/core/packedRun";
import { Session } from "../../src/core/session";
import { PROMPT, runContent, stepBuffers, stepContent, TestHost } from "../host";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function live(traits = {}): { host: TestHost; session: Session } {
  const host = new TestHost({ prompt: PROMPT, status: "running", _can_run: true, ...traits });
  const session = new Session(host);
  host.deliver(runContent());
  return { host, session };
}

const end = (seq: number, steps: number, state = "done") => ({
  type: "end",
  run: "r1",
  seq,
  state,
  steps,
  error: null,
  seconds: 2,
});

describe("hello and acknowledgements", () => {
  it("says hello when it appears, with nothing to show", () => {
    const host = new TestHost();
    new Session(host);
    expect(host.of("hello")).toMatchObject([{ run: null, have: [] }]);
  });

  it("acknowledges every message, one that it cannot read too", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { host } = live();
    host.deliver(stepContent(0), stepBuffers());
    host.deliver({ type: "step", seq: 2, run: "r1" });
    expect(host.of("ack").map((ack) => ack.seq)).toEqual([0, 1, 2]);
    expect(warn).toHaveBeenCalledOnce();
    warn.mockRestore();
  });

  it("asks for what is missing after a gap in the numbers", () => {
    const { host } = live();
    host.deliver(stepContent(0, 1), stepBuffers());
    host.deliver(stepContent(2, 3), stepBuffers());
    expect(host.of("hello")).toHaveLength(1);
    vi.advanceTimersByTime(1000);
    expect(host.of("hello").at(-1)).toMatchObject({ run: "r1", have: [0, 2] });
  });

  it("does not ask while everything comes in order, whatever step it is about", () => {
    const { host } = live();
    [3, 0, 1].forEach((index, i) => {
      host.deliver(stepContent(index, i + 1), stepBuffers());
    });
    vi.advanceTimersByTime(5000);
    expect(host.of("hello")).toHaveLength(1);
  });

  it("asks for a run whose beginning was lost", () => {
    const host = new TestHost({ status: "running" });
    new Session(host);
    host.deliver(stepContent(5, 40), stepBuffers());
    vi.advanceTimersByTime(1000);
    expect(host.of("hello")).toHaveLength(2);
  });

  it("asks at the end for steps that were skipped, but not if they come by themselves", () => {
    const { host } = live();
    host.deliver(stepContent(1, 1), stepBuffers());
    host.deliver(end(2, 2));
    host.deliver(stepContent(0, 3), stepBuffers());
    vi.advanceTimersByTime(5000);
    expect(host.of("hello")).toHaveLength(1);
  });

  it("says hello again when the kernel comes back", () => {
    const { host, session } = live();
    host.deliver(stepContent(0), stepBuffers());
    host.connect(false);
    expect(session.connected.value).toBe(false);
    host.connect(true);
    expect(host.of("hello").at(-1)).toMatchObject({ run: "r1", have: [0] });
  });
});

describe("steps", () => {
  it("are followed while the run goes on, and the last is told at the end", () => {
    const { host, session } = live();
    for (const index of [0, 1, 2]) host.deliver(stepContent(index), stepBuffers());
    expect(session.viewState.step.value).toBe(2);
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([]);
    host.fromKernel({ status: "done" });
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([{ step: 2 }]);
  });

  it("stay where the reader went, until live is asked for", () => {
    const { host, session } = live();
    for (const index of [0, 1, 2]) host.deliver(stepContent(index), stepBuffers());
    session.goTo(1);
    host.deliver(stepContent(3), stepBuffers());
    expect(session.viewState.step.value).toBe(1);
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([{ step: 1 }]);
    session.follow();
    expect(session.viewState.step.value).toBe(3);
  });

  it("are told to the kernel a few times a second at most", () => {
    const { host, session } = live({ status: "done" });
    for (const index of [0, 1, 2, 3]) host.deliver(stepContent(index), stepBuffers());
    for (let i = 0; i < 100; i++) session.goTo(i % 4);
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([{ step: 3 }]);
    session.goTo(1);
    session.goTo(2);
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([{ step: 3 }, { step: 2 }]);
  });

  it("written from Python move the page and are not written back", () => {
    const { host, session } = live({ status: "done" });
    for (const index of [0, 1, 2, 3]) host.deliver(stepContent(index), stepBuffers());
    host.fromKernel({ step: 1 });
    expect(session.viewState.step.value).toBe(1);
    vi.advanceTimersByTime(1000);
    expect(host.written).toEqual([]);
  });

  it("do not go past what is here", () => {
    const { host, session } = live();
    host.deliver(stepContent(0), stepBuffers());
    host.deliver(stepContent(1), stepBuffers());
    session.goTo(99);
    expect(session.viewState.step.value).toBe(1);
    session.goTo(-4);
    expect(session.viewState.step.value).toBe(0);
  });
});

describe("runs", () => {
  it("are asked for with the settings, and show as queued at once", () => {
    const { host, session } = live({ status: "done" });
    session.run({ prompt: "a boat", seed: 3 });
    expect(host.of("run")).toEqual([{ type: "run", prompt: "a boat", seed: 3 }]);
    expect(session.status.value).toBe("queued");
    host.fromKernel({ status: "running" });
    expect(session.status.value).toBe("running");
  });

  it("that falls silent is asked after, and said to be unanswered if the kernel is gone", async () => {
    const { host, session } = live();
    host.deliver(stepContent(0), stepBuffers());
    vi.advanceTimersByTime(9000);
    host.deliver(stepContent(1), stepBuffers());
    vi.advanceTimersByTime(9000);
    expect(host.of("runs")).toEqual([]);
    vi.advanceTimersByTime(1001);
    expect(host.of("runs")).toEqual([{ type: "runs", id: expect.any(Number) }]);
    host.deliver({ type: "runs", id: host.of("runs")[0]?.id, seq: 9, runs: [] });
    await vi.advanceTimersByTimeAsync(6000);
    expect(session.unanswered.value).toBe(false);
    await vi.advanceTimersByTimeAsync(9001);
    expect(session.unanswered.value).toBe(true);
    host.fromKernel({ status: "done" });
    expect(session.unanswered.value).toBe(false);
  });

  it("that a kernel does not answer are said to be unanswered", () => {
    const { host, session } = live({ status: "done" });
    session.run({});
    vi.advanceTimersByTime(20_000);
    expect(session.unanswered.value).toBe(true);
    host.fromKernel({ status: "running" });
    expect(session.unanswered.value).toBe(false);
  });

  it("begun from Python are followed, even after the reader scrubbed the one before", () => {
    const { host, session } = live({ status: "done" });
    for (const index of [0, 1, 2, 3]) host.deliver(stepContent(index), stepBuffers());
    session.goTo(1);
    host.fromKernel({ status: "running" });
    host.deliver(runContent("r2", 9));
    host.deliver(stepContent(0, 10, "r2"), stepBuffers());
    expect(session.viewState.step.value).toBe(0);
    host.deliver(stepContent(1, 11, "r2"), stepBuffers());
    expect(session.viewState.step.value).toBe(1);
  });

  it("carry the chosen words over by their text", () => {
    const { host, session } = live();
    host.deliver(stepContent(0), stepBuffers());
    session.viewState.pin(2, false);
    session.viewState.pin(3, true);
    const words = [
      { text: "Red", tokens: [0], token_texts: ["Red"], kind: "word", unknown: false },
      { text: "boat", tokens: [1], token_texts: ["boat"], kind: "word", unknown: false },
    ];
    host.deliver(runContent("r2", 9, { words }));
    host.deliver(stepContent(0, 10, "r2", { maps: { shape: [2, 2, 2], scales: [null, null] } }), [
      new Uint8Array(1),
      new Uint8Array(8),
    ]);
    expect(session.viewState.pinned.value).toEqual([0]);
  });
});

describe("a saved run", () => {
  const saved = (run = "r1") =>
    pack([
      { content: { ...runContent(run), seq: undefined }, buffers: [] },
      ...[0, 1, 2].map((index) => ({
        content: { ...stepContent(index, 0, run), seq: undefined },
        buffers: stepBuffers(),
      })),
      { content: { ...end(0, 3), run }, buffers: [] },
    ]);

  it("is shown without a kernel, at its end, and scrubs", () => {
    const session = new Session(new TestHost({ status: "done", _snapshot: new DataView(saved().buffer) }));
    expect(session.store.shown.value?.count.value).toBe(3);
    expect(session.viewState.step.value).toBe(2);
    session.goTo(0);
    expect(session.viewState.step.value).toBe(0);
  });

  it("opens at the step that was looked at", () => {
    const session = new Session(new TestHost({ status: "done", step: 1, _snapshot: saved() }));
    expect(session.viewState.step.value).toBe(1);
  });

  it("never replaces a newer run that is here", () => {
    const { host, session } = live();
    host.deliver(stepContent(0), stepBuffers());
    host.fromKernel({ _snapshot: saved("older") });
    expect(session.store.shown.value?.info.run).toBe("r1");
  });

  it("that is damaged is left out, with a warning", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    const session = new Session(new TestHost({ _snapshot: saved().subarray(0, 90) }));
    expect(session.store.shown.value).toBeNull();
    expect(warn).toHaveBeenCalledOnce();
    warn.mockRestore();
  });
});

it("leaves nothing running when its view is gone", () => {
  const { host, session } = live();
  host.deliver(stepContent(0, 5), stepBuffers());
  session.run({});
  host.controller.abort();
  expect(vi.getTimerCount()).toBe(0);
});
