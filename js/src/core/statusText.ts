// The state of the page in words: what the kernel is doing, and what there is to know about the prompt.

import { seconds } from "./format";
import type { Status } from "./host";
import type { Session } from "./session";
import { stepNumber } from "./stepNumbers";
import type { Run } from "./store";
import { unknownText } from "./vocabulary";

const SHIPPED = "Recorded run";

export interface StatusText {
  readonly tone: "calm" | "busy" | "good" | "bad";
  readonly text: string;
}

/** Estimated seconds until the run ends, from the pace of its steps after the first, which warms the model up; null while
 *  there is no pace. */
export function secondsLeft(run: Run | null): number | null {
  if (!run) return null;
  const done = run.latest.value + 1;
  if (done < 2 || run.elapsed <= 0) return null;
  return ((run.elapsed - run.firstElapsed) / (done - 1)) * Math.max(0, run.info.steps - done);
}

function progress(run: Run | null): string {
  // A run that has ended is still shown while the kernel computes the first step of the next one.
  if (!run || run.end.value !== null) return "";
  const done = run.latest.value + 1;
  const left = secondsLeft(run);
  return `: step ${done} of ${run.info.steps}${left === null || left < 0.05 ? "" : ` · ${seconds(left)} left`}`;
}

function idleText(session: Session): string {
  if (!session.traits._can_run.value) return "A recorded run";
  return session.traits.prompt.value === "" ? "Write a prompt to begin" : "Ready: press Run or Enter";
}

export function statusText(session: Session): StatusText {
  const { store, traits, status, connected, unanswered } = session;
  const notice = traits._notice.value;
  if (!connected.value)
    return { tone: "bad", text: "No kernel: run this cell again to continue. What is here can still be viewed" };
  if (unanswered.value) return { tone: "bad", text: "The kernel has not replied yet: it is busy or gone" };
  if (store.refused.value !== "") return { tone: "bad", text: store.refused.value };
  const run = store.shown.value;
  const current = store.pending.value ?? run;
  const end = run?.end.value ?? null;
  const texts: Record<Status, () => StatusText> = {
    loading: () => ({
      tone: "busy",
      text: `${run?.info.shipped ? `${SHIPPED}, shown while the model loads · ` : ""}${notice || "Loading the model"}`,
    }),
    idle: () => ({ tone: "calm", text: notice || idleText(session) }),
    queued: () => ({
      tone: "busy",
      text: `${run?.info.shipped ? `${SHIPPED}, shown until this one can start · ` : ""}${notice || "Queued"}`,
    }),
    running: () => ({ tone: "busy", text: `${current?.info.draft ? "Draft" : "Running"}${progress(current)}` }),
    stopping: () => ({ tone: "busy", text: "Stopping after this step" }),
    stopped: () => ({
      tone: "calm",
      text: run && end?.state === "stopped" ? `Stopped after ${end.steps} of ${run.info.steps} steps` : "Stopped",
    }),
    done: () => ({ tone: "good", text: end && end.seconds > 0 ? `Done in ${seconds(end.seconds)}` : "Done" }),
    failed: () => ({
      tone: "bad",
      text: run && end?.state === "failed" ? `Failed at step ${stepNumber(end.steps)} of ${run.info.steps}` : "Failed",
    }),
  };
  return texts[status.value]();
}

/** Warnings: words that the model has never seen or that are beyond its limit, and an image that is not the decoded one. */
export function promptText({ traits, store, status }: Session): string {
  const notice = traits._notice.value;
  // Before a run the notice is part of the status; during and after a run it is about something else.
  if (notice !== "" && !["loading", "idle", "queued"].includes(status.value)) return notice;
  const words = store.current?.info.words ?? [];
  const unknown = [...new Set(words.filter((word) => word.unknown).map((word) => word.text))];
  const truncated = words.filter((word) => word.kind === "truncated").map((word) => word.text);
  const warnings: string[] = [];
  // Loading and waiting have it in the status; the first step of the live run replaces it.
  if (store.shown.value?.info.shipped && !["loading", "queued"].includes(status.value)) warnings.push(SHIPPED);
  if (unknown.length > 0) warnings.push(unknownText(unknown, traits._vocabulary.value));
  if (truncated.length > 0) warnings.push(`Prompt too long: ${truncatedText(truncated)}`);
  const note = store.current?.end.value?.note ?? "";
  if (note !== "") warnings.push(note.charAt(0).toUpperCase() + note.slice(1));
  return warnings.join(" · ");
}

function truncatedText(words: readonly string[]): string {
  if (words.length === 1) return `${words[0]} has no effect`;
  if (words.length < 4) return `${words.join(", ")} have no effect`;
  return `the last ${words.length} words, from “${words[0]}” on, have no effect`;
}
