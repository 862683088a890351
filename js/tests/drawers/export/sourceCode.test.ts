// The Python of a view: written by the kernel, asked for once the view rests, and never by the page itself.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { effect } from "../../../src/app/coreExports";
import { Session } from "../../../src/core/session";
import { SourceCodes } from "../../../src/drawers/export/sourceCode";
import { runContent, stepBuffers, stepContent, TestHost } from "../../host";

let host: TestHost;
let session: Session;
let codes: SourceCodes;

const requests = () => host.of("source_code");
const reply = async (python: string | null, at = -1) => {
  host.deliver({ type: "source_code", seq: 9, id: requests().at(at)?.id, python, file: null });
  await vi.advanceTimersByTimeAsync(0);
};

beforeEach(() => {
  vi.useFakeTimers();
  host = new TestHost();
  session = new Session(host);
  host.deliver(runContent());
  for (const index of [0, 1, 2]) host.deliver(stepContent(index), stepBuffers());
  codes = new SourceCodes(session);
  effect(() => codes.request());
});
afterEach(() => {
  vi.useRealTimers();
});

it("is asked for with the view on the stage, once the view rests", async () => {
  session.goTo(0);
  session.goTo(1);
  session.viewState.pin(2, false);
  await vi.advanceTimersByTimeAsync(200);
  expect(requests()).toHaveLength(1);
  expect(requests()[0]).toMatchObject({ run: "r1", view: { step: 1, words: ["red"], shared_scale: false } });
  await reply("figure(1)\n");
  expect([codes.current.value?.python, codes.isStale.value]).toEqual(["figure(1)\n", false]);
});

it("stays while that of the next view is on its way, and takes no reply for a view that was left", async () => {
  await vi.advanceTimersByTimeAsync(200);
  await reply("figure(2)\n");
  session.goTo(0);
  expect([codes.current.value?.python, codes.isStale.value]).toEqual(["figure(2)\n", true]);
  await vi.advanceTimersByTimeAsync(200);
  session.goTo(1);
  await vi.advanceTimersByTimeAsync(200);
  await reply("figure(0)\n", -2);
  expect(codes.isStale.value).toBe(true);
  await reply("figure(1)\n");
  expect(codes.current.value?.python).toBe("figure(1)\n");
});

it("is not there where the kernel has none, and not without a kernel", async () => {
  await vi.advanceTimersByTimeAsync(200);
  await reply(null);
  expect(codes.current.value).toBeNull();
  session.goTo(0);
  await vi.advanceTimersByTimeAsync(200);
  await reply("figure(0)\n");
  host.connect(false);
  expect(codes.current.value).toBeNull();
});

it("is that of the run on an offline page, which can ask for no other", async () => {
  host.isOffline = true;
  session = new Session(host);
  host.deliver(runContent());
  host.deliver(stepContent(0), stepBuffers());
  codes = new SourceCodes(session);
  effect(() => codes.request());
  await vi.advanceTimersByTimeAsync(200);
  expect(requests().at(-1)).toMatchObject({ run: "r1", view: null });
});
