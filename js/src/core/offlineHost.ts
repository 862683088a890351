// A host without a kernel: everything that there is to know is here from the start. For the offline page.

import type { Host, Status, TraitName, Traits } from "./host";
import { pack } from "./packedRun";
import type { Message, PageMessage } from "./protocol";

type Fields = Readonly<Record<string, unknown>>;

const UNMEASURED = "This page holds the scores of its own concepts only: another one needs the notebook.";
const NOT_HERE = "This page does not hold that: it needs the notebook, or dv.to_html(…, layers=True).";
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

function fields({ content }: Message): Fields {
  return content as Fields;
}

/** `messages`: runs as the kernel would tell them, the one to show last, and what it would answer to questions. */
export function offline(messages: readonly Message[], given: Partial<Traits>, signal: AbortSignal): Host {
  const traits: Partial<Traits> = { ...given, _can_run: false };
  const changes: (readonly [name: TraitName, tell: () => void])[] = [];
  const listeners: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  const answers = messages.filter((message) => typeof fields(message).id === "number");
  const runs = new Map<unknown, Message[]>();
  for (const message of messages) {
    const { id, run } = fields(message);
    if (typeof id !== "number") runs.set(run, [...(runs.get(run) ?? []), message]);
  }
  let shown = [...runs.keys()].at(-1);

  const deliver = (content: unknown, buffers: readonly ArrayBufferView[]) => {
    for (const take of listeners) take(content, buffers);
  };
  const set = (values: Partial<Traits>) => {
    Object.assign(traits, values);
    for (const [name, tell] of changes) if (name in values) tell();
  };
  const tellRun = () => {
    for (const { content, buffers } of runs.get(shown) ?? []) deliver(content, buffers);
  };
  const show = (run: string) => {
    const told = runs.get(run);
    const [begun, end] = [told?.[0], told?.at(-1)];
    if (!told || !begun || !end) return;
    shown = run;
    const asked = Object.fromEntries(SETTINGS.map((name) => [name, fields(begun)[name]]));
    const concepts = told.map(fields).find(({ type }) => type === "scores")?.concepts ?? [];
    set({ ...asked, concepts, status: fields(end).state as Status } as Partial<Traits>);
    tellRun();
  };
  /** The kernel's answer holds all that the question named. */
  const answer = ({ id, ...question }: Fields) => {
    const kept = question.type === "packed" ? runs.get(question.run) : undefined;
    if (kept) return deliver({ ...question, id }, [pack(kept)]);
    const asked = Object.entries(question);
    const found = answers.find((one) => asked.every(([name, value]) => fields(one)[name] === value));
    if (found) deliver({ ...fields(found), id }, found.buffers);
    else deliver({ type: "error", run: null, id, message: NOT_HERE }, []);
  };

  return {
    signal,
    keeps: false,
    get: <K extends TraitName>(name: K) => traits[name] as Traits[K] | undefined,
    set({ concepts, ...values }) {
      if (concepts === undefined) return set(values);
      const measured = runs
        .get(shown)
        ?.map(fields)
        .find(({ type }) => type === "scores")?.concepts as unknown;
      const known = concepts.filter((concept) => Array.isArray(measured) && measured.includes(concept));
      set({ ...values, concepts: known, _notice: known.length < concepts.length ? UNMEASURED : "" });
    },
    send(message: PageMessage) {
      if (message.type === "hello") tellRun();
      else if (message.type === "show") show(message.run);
      // A kernel takes its time too: whoever asks is not done asking yet.
      else if ("id" in message) queueMicrotask(() => answer(message as unknown as Fields));
    },
    canAnswer: (type) => type === "packed" || answers.some((message) => fields(message).type === type),
    onChange(name, tell) {
      changes.push([name, tell]);
    },
    onMessage(take) {
      listeners.push(take);
    },
    onConnection(tell) {
      tell(true);
    },
  };
}
