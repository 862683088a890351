// The host of an offline page: no kernel, only the messages that the page holds.

import type { Host, Status, TraitName, Traits } from "./host";
import { pack } from "./packedRun";
import type { Message, PageMessage } from "./protocol";

type Fields = Readonly<Record<string, unknown>>;

const NOT_MEASURED = "This page holds the scores of its own concepts only.";
const NOT_HELD = "This page does not hold that.";
const SETTINGS = [
  "prompt",
  "negative_prompt",
  "seed",
  "steps",
  "guidance_scale",
  "schedule",
  "schedule_strength",
  "weights",
] as const;

function fieldsOf({ content }: Message): Fields {
  return content as Fields;
}

function hasNotes(run: Message | undefined): boolean {
  const notes = run && fieldsOf(run).notes;
  return Array.isArray(notes) && notes.length > 0;
}

/** `messages`: the messages of the runs, the run to show last, and the kernel's replies to requests. */
export function createOfflineHost(
  messages: readonly Message[],
  initialTraits: Partial<Traits>,
  signal: AbortSignal,
): Host {
  const traits: Partial<Traits> = { ...initialTraits, _can_run: false };
  const traitListeners: (readonly [name: TraitName, callback: () => void])[] = [];
  const messageListeners: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  const replies = messages.filter((message) => typeof fieldsOf(message).id === "number");
  const runs = new Map<unknown, Message[]>();
  for (const message of messages) {
    const { id, run } = fieldsOf(message);
    if (typeof id !== "number") runs.set(run, [...(runs.get(run) ?? []), message]);
  }
  let shownRun = [...runs.keys()].at(-1);

  const deliver = (content: unknown, buffers: readonly ArrayBufferView[]) => {
    for (const listener of messageListeners) listener(content, buffers);
  };
  const set = (values: Partial<Traits>) => {
    Object.assign(traits, values);
    for (const [name, callback] of traitListeners) if (name in values) callback();
  };
  const deliverRun = () => {
    for (const { content, buffers } of runs.get(shownRun) ?? []) deliver(content, buffers);
  };
  const scoredConcepts = (run: unknown): readonly string[] => {
    const scores = runs
      .get(run)
      ?.map(fieldsOf)
      .find(({ type }) => type === "scores");
    return (scores?.concepts ?? []) as readonly string[];
  };

  const show = (run: string) => {
    const runMessages = runs.get(run);
    const [first, last] = [runMessages?.[0], runMessages?.at(-1)];
    if (!first || !last) return;
    shownRun = run;
    const settings = Object.fromEntries(SETTINGS.map((name) => [name, fieldsOf(first)[name]]));
    set({ ...settings, concepts: scoredConcepts(run), status: fieldsOf(last).state as Status } as Partial<Traits>);
    deliverRun();
  };

  /** A reply answers a request if it has all of the request's fields. */
  const reply = ({ id, ...request }: Fields) => {
    const runMessages = request.type === "packed" ? runs.get(request.run) : undefined;
    if (runMessages) return deliver({ ...request, id }, [pack(runMessages)]);
    const match = replies.find((candidate) =>
      Object.entries(request).every(([name, value]) => fieldsOf(candidate)[name] === value),
    );
    if (match) deliver({ ...fieldsOf(match), id }, match.buffers);
    else deliver({ type: "error", run: null, id, message: NOT_HELD }, []);
  };

  return {
    signal,
    isOffline: true,
    get: <K extends TraitName>(name: K) => traits[name] as Traits[K] | undefined,
    set({ concepts, ...values }) {
      if (concepts === undefined) return set(values);
      const scored = concepts.filter((concept) => scoredConcepts(shownRun).includes(concept));
      set({ ...values, concepts: scored, _notice: scored.length < concepts.length ? NOT_MEASURED : "" });
    },
    send(message: PageMessage) {
      if (message.type === "hello") deliverRun();
      else if (message.type === "show") show(message.run);
      // Asynchronous like a kernel's reply: the caller has not returned yet.
      else if ("id" in message) queueMicrotask(() => reply(message as unknown as Fields));
    },
    canAnswer(type) {
      if (type === "packed" || type === "runs") return runs.size > 1; // other runs than the shown one
      if (type === "notes") return [...runs.values()].some(([first]) => hasNotes(first));
      return replies.some((message) => fieldsOf(message).type === type);
    },
    onChange(name, callback) {
      traitListeners.push([name, callback]);
    },
    onMessage(callback) {
      messageListeners.push(callback);
    },
    onConnection(callback) {
      callback(true);
    },
  };
}
