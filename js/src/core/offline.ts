// A host without a kernel: everything that there is to know is here from the start. For the offline page.

import type { Host, TraitName, Traits } from "./host";
import type { Message, PageMessage, Question } from "./protocol";

type Fields = Readonly<Record<string, unknown>>;

const UNMEASURED = "This page holds the scores of its own concepts only: another one needs the notebook.";
const NOT_HERE = "This page was made without it: dv.to_html(…, layers=True) puts the layers in.";

/** `messages`: a run as the kernel would tell it, and what it would answer to questions, in any order. */
export function offline(messages: readonly Message[], given: Partial<Traits>, signal: AbortSignal): Host {
  const traits: Partial<Traits> = { ...given, _can_run: false };
  const measured = new Set(given.concepts);
  const changes: (readonly [name: TraitName, tell: () => void])[] = [];
  const listeners: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  const isAnswer = ({ content }: Message) => typeof (content as Fields).id === "number";
  const answers = messages.filter(isAnswer);
  const told = messages.filter((message) => !isAnswer(message));

  const deliver = (content: unknown, buffers: readonly ArrayBufferView[]) => {
    for (const take of listeners) take(content, buffers);
  };
  const set = (values: Partial<Traits>) => {
    Object.assign(traits, values);
    for (const [name, tell] of changes) if (name in values) tell();
  };
  /** The kernel's answer holds all that the question named. */
  const answer = ({ id, ...question }: Question & { readonly id: number }) => {
    const asked = Object.entries(question);
    const found = answers.find(({ content }) => asked.every(([name, value]) => (content as Fields)[name] === value));
    if (found) deliver({ ...(found.content as Fields), id }, found.buffers);
    else deliver({ type: "error", run: null, id, message: NOT_HERE }, []);
  };

  return {
    signal,
    get: <K extends TraitName>(name: K) => traits[name] as Traits[K] | undefined,
    set({ concepts, ...values }) {
      if (concepts === undefined) return set(values);
      const known = concepts.filter((concept) => measured.has(concept));
      set({ ...values, concepts: known, _notice: known.length < concepts.length ? UNMEASURED : "" });
    },
    send(message: PageMessage) {
      if (message.type === "hello") for (const { content, buffers } of told) deliver(content, buffers);
      // A kernel takes its time too: whoever asks is not done asking yet.
      else if ("id" in message) queueMicrotask(() => answer(message));
    },
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
