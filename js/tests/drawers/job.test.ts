// Jobs of the kernel, polled until they are over.

import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { REPLY_TIMEOUT_MS } from "../../src/core/requests";
import { Session } from "../../src/core/session";
import { Job } from "../../src/drawers/job";
import { TestHost } from "../host";

let host: TestHost;
let job: Job;

const reply = (state: string) =>
  host.deliver({
    type: "job",
    seq: 1,
    id: host.of("job").at(-1)?.id,
    state,
    progress: 0.5,
    seconds_left: null,
    error: "",
  });

beforeEach(() => {
  vi.useFakeTimers();
  host = new TestHost();
  job = new Job(new Session(host), () => undefined);
  job.start({ kind: "saliency" });
});
afterEach(() => {
  vi.useRealTimers();
});

it("asks again for a reply that was lost, and goes on although the first request ends without one", async () => {
  await vi.advanceTimersByTimeAsync(4001);
  expect(host.of("job")).toHaveLength(2);
  for (let seconds = 0; seconds < 70; seconds++) {
    reply("running");
    await vi.advanceTimersByTimeAsync(1000);
  }
  expect(job.status.value?.state).toBe("running");
});

it("fails when the kernel does not reply for a minute", async () => {
  await vi.advanceTimersByTimeAsync(REPLY_TIMEOUT_MS);
  expect(job.status.value).toMatchObject({ state: "failed", error: expect.stringContaining("did not reply") });
});
