// What the page says about its state, in words: what happens now, and what there is to know about the prompt.

import { seconds } from "./format";
import type { Status } from "./host";
import type { Session } from "./session";
import type { Run } from "./store";

export interface Telling {
  readonly tone: "calm" | "busy" | "good" | "bad";
  readonly text: string;
}

/** Seconds left of a run, from the pace of its steps so far; null before there is a pace. */
export function secondsLeft(run: Run | null): number | null {
  if (!run) return null;
  const done = run.latest.value + 1;
  if (done < 2 || run.elapsed <= 0) return null;
  return (run.elapsed / done) * Math.max(0, run.info.steps - done);
}

function progress(run: Run | null): string {
  // The kernel is at work on a run that has not told its first step yet.
  if (!run || run.end.value !== null) return "";
  const done = run.latest.value + 1;
  const left = secondsLeft(run);
  return ` ${done} of ${run.info.steps}${left === null || left < 0.05 ? "" : ` · ${seconds(left)} left`}`;
}

function idleText(session: Session): string {
  if (!session.traits._can_run.value) return "A recorded run";
  return session.traits.prompt.value === "" ? "Write a prompt to begin" : "Ready: Run, or Enter in the prompt";
}

export function tellStatus(session: Session): Telling {
  const { store, traits, status, connected, unanswered } = session;
  const notice = traits._notice.value;
  if (!connected.value) return { tone: "bad", text: "No kernel: what has arrived can still be scrubbed" };
  if (unanswered.value) return { tone: "bad", text: "The kernel has not answered yet: it is busy, or gone" };
  if (store.refused.value !== "") return { tone: "bad", text: store.refused.value };
  const run = store.shown.value;
  const current = store.coming.value ?? run;
  const end = run?.end.value ?? null;
  const texts: Record<Status, () => Telling> = {
    loading: () => ({ tone: "busy", text: notice || "Loading the model" }),
    idle: () => ({ tone: "calm", text: notice || idleText(session) }),
    queued: () => ({ tone: "busy", text: notice || "Queued" }),
    running: () => ({ tone: "busy", text: `Running${progress(current)}` }),
    stopping: () => ({ tone: "busy", text: "Stopping after this step" }),
    stopped: () => ({
      tone: "calm",
      text: run && end?.state === "stopped" ? `Stopped at ${end.steps} of ${run.info.steps}` : "Stopped",
    }),
    done: () => ({ tone: "good", text: end && end.seconds > 0 ? `Done in ${seconds(end.seconds)}` : "Done" }),
    failed: () => ({
      tone: "bad",
      text: run && end?.state === "failed" ? `Failed at step ${end.steps + 1} of ${run.info.steps}` : "Failed",
    }),
  };
  return texts[status.value]();
}

/** What the reader must know about the words of a prompt: those that the model does not know, those cut off. */
export function tellWords({ traits, store, status }: Session): string {
  const notice = traits._notice.value;
  // Before a run the notice is the status itself; later it is about something that goes on beside it.
  if (notice !== "" && !["loading", "idle", "queued"].includes(status.value)) return notice;
  const words = store.current?.info.words ?? [];
  const unknown = [...new Set(words.filter((word) => word.unknown).map((word) => word.text))];
  const cut = words.filter((word) => word.kind === "truncated").map((word) => word.text);
  const said: string[] = [];
  if (unknown.length > 0) said.push(`Unknown to the model: ${unknown.join(", ")}`);
  if (cut.length > 0)
    said.push(`Cut off, too long: ${cut.length < 4 ? cut.join(", ") : `${cut.length} words from “${cut[0]}”`}`);
  return said.join(" · ");
}
