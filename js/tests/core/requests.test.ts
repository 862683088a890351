// Requests to the kernel: every view of a widget receives every reply, and some replies never come.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { REPLY_TIMEOUT_MS } from "../../src/core/requests";
import { Session } from "../../src/core/session";
import { runContent, stepBuffers, stepContent, TestHost } from "../host";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

it("takes no reply to a request of another view of the same widget", async () => {
  const host = new TestHost();
  const [first, second] = [new Session(host), new Session(host)];
  const layers = first.ask({ type: "layers", run: "r1", step: 0, word: 1 });
  const runs = second.ask({ type: "runs" });
  const taken = vi.fn();
  layers.then(
    () => taken("layers"),
    () => undefined,
  );
  void runs.then(() => taken("runs"));
  host.deliver({ type: "runs", seq: 0, id: host.of("runs")[0]?.id, limit: 8, runs: [] });
  await vi.advanceTimersByTimeAsync(0);
  expect(taken.mock.calls).toEqual([["runs"]]);
  host.deliver({ type: "error", run: null, seq: 1, id: host.of("layers")[0]?.id, message: "no such word" });
  await expect(layers).rejects.toThrow("no such word");
  await expect(runs).resolves.toMatchObject({ content: { limit: 8 } });
});

it("numbers requests with safe integers, each once", () => {
  const host = new TestHost();
  const sessions = Array.from({ length: 5 }, () => new Session(host));
  for (const session of sessions)
    for (let i = 0; i < 20; i++) void session.ask({ type: "runs" }).catch(() => undefined);
  const ids = host.of("runs").map(({ id }) => id);
  expect(new Set(ids).size).toBe(100);
  expect(ids.every((id) => Number.isSafeInteger(id))).toBe(true);
});

it("gives up on a request without a reply after a minute, and says so", async () => {
  const session = new Session(new TestHost());
  const reply = session.ask({ type: "runs" });
  const refused = expect(reply).rejects.toThrow("The kernel did not reply within 60 s: it is busy, or gone.");
  await vi.advanceTimersByTimeAsync(REPLY_TIMEOUT_MS);
  await refused;
});

it("still believes a kernel gone whose reply to another view's request arrives", async () => {
  const host = new TestHost({ status: "running" });
  const [first] = [new Session(host), new Session(host)];
  host.deliver(runContent());
  host.deliver(stepContent(0), stepBuffers());
  await vi.advanceTimersByTimeAsync(10_001);
  const [, other] = host.of("runs");
  host.deliver({ type: "runs", seq: 9, id: other?.id, limit: 8, runs: [] });
  await vi.advanceTimersByTimeAsync(5000);
  expect(first.unanswered.value).toBe(true);
});
