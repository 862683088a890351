// The host of a page that paints: the runs that the page holds, and the kernel in its worker for new ones.

import type { Host, TraitName, Traits } from "./host";
import type { KernelRequest, PageMessage } from "./protocol";
import type { FromWorker, ToWorker } from "./workerMessages";

/** What the page carries of its engine. */
export interface EngineFiles {
  /** The script of the worker. */
  readonly script: string;
  readonly wasm: string;
  readonly model: string;
  /** Whether the prompt is painted as soon as the model is there. */
  readonly runsAtOnce: boolean;
}

/** A module that is valid only where WebAssembly has 128-bit SIMD. */
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];
const TOO_OLD = "This browser is too old to paint new images: it lacks WebAssembly SIMD or DecompressionStream.";
const NOT_IN_PAGE = "A recorded run is compared by its images only: paint it in this page to compare more.";
/** Jobs that the engine does for runs that it painted. */
const JOBS: readonly unknown[] = ["decision", "saliency", "estimates", "attention"];
const PAINT_FIRST = "This run was recorded before: press Run to paint it in this page, then try again.";

/** Why this browser cannot run the engine; empty if it can. */
function missingFeature(): string {
  const hasSimd = typeof WebAssembly === "object" && WebAssembly.validate(Uint8Array.from(SIMD));
  return hasSimd && typeof DecompressionStream === "function" && typeof Worker === "function" ? "" : TOO_OLD;
}

/** `recorded`: the host of the runs in the page, which are there before the model is. */
export function createLiveHost(recorded: Host, files: EngineFiles, initialTraits: Partial<Traits>): Host {
  const traits: Partial<Traits> = { ...initialTraits, _can_run: false };
  const traitListeners: (readonly [name: TraitName, callback: () => void])[] = [];
  const messageListeners: ((content: unknown, buffers: readonly ArrayBufferView[]) => void)[] = [];
  /** The runs that the engine has begun. */
  const painted = new Set<string>();
  let worker: Worker | null = null;
  let isReady = false;
  let shownRun = "";

  const deliver = (content: unknown, buffers: readonly ArrayBufferView[]) => {
    for (const listener of messageListeners) listener(content, buffers);
  };
  const update = (values: Partial<Traits>) => {
    Object.assign(traits, values);
    for (const [name, callback] of traitListeners) if (name in values) callback();
  };
  const post = (message: ToWorker) => worker?.postMessage(message);
  const restingStatus = traits.status ?? "idle";
  const fail = (reason: string) => {
    worker?.terminate();
    isReady = false;
    update({ _can_run: false, status: painted.size > 0 ? "failed" : restingStatus, _notice: reason, error: reason });
  };

  const receive = (message: FromWorker) => {
    if (message.type === "progress") update({ progress: message.share });
    else if (message.type === "failed") fail(message.reason);
    else if (message.type === "traits") update(message.traits);
    else if (message.type === "message") {
      const { type, run } = message.content as { readonly type?: unknown; readonly run?: unknown };
      if (type === "run") {
        painted.add(run as string);
        shownRun = run as string;
      }
      deliver(message.content, message.buffers);
    } else {
      isReady = true;
      post({ type: "set", values: traits });
      update({ _can_run: true, _takes_concepts: true, status: restingStatus, _notice: "", progress: 0 });
      if (files.runsAtOnce && traits.prompt) post({ type: "message", message: { type: "run", prompt: traits.prompt } });
    }
  };

  const start = () => {
    const reason = missingFeature();
    if (reason) return fail(reason);
    try {
      const url = URL.createObjectURL(new Blob([files.script], { type: "text/javascript" }));
      worker = new Worker(url);
      worker.onmessage = ({ data }: MessageEvent<FromWorker>) => receive(data);
      worker.onerror = () => fail("The model could not be started: this browser allows the page no worker.");
      update({ status: "loading", _notice: "Loading the model", progress: 0 });
      post({ type: "start", wasm: files.wasm, model: files.model });
    } catch (error) {
      fail(`The model could not be started: ${error instanceof Error ? error.message : error}`);
    }
  };
  recorded.signal.addEventListener("abort", () => worker?.terminate());
  // What the recorded run changes when it is shown: its settings, its concepts.
  for (const name of Object.keys(initialTraits) as TraitName[])
    recorded.onChange(name, () => {
      if (name !== "status" || isReady) update({ [name]: recorded.get(name) });
    });
  recorded.onMessage(deliver);

  /** Whether the page itself holds the answer to a request. */
  const isRecorded = (message: KernelRequest): boolean => {
    if (message.type === "compare") return !painted.has(message.a) && !painted.has(message.b);
    return "run" in message && !painted.has(message.run);
  };
  /** Asynchronous like a kernel's reply: the caller has not returned yet. */
  const reply = (content: { readonly id: number }) => queueMicrotask(() => deliver(content, []));
  const refuse = (id: number, message: string) => reply({ type: "error", run: null, id, message } as { id: number });
  const ask = (message: KernelRequest & { readonly id: number }) => {
    const { id, type } = message;
    if (type === "compare" && painted.has(message.a) !== painted.has(message.b)) refuse(id, NOT_IN_PAGE);
    else if (isReady && type === "job" && JOBS.includes(message.task.kind) && !painted.has(String(message.task.run)))
      refuse(id, PAINT_FIRST);
    else if (isReady && isRecorded(message) && type === "decisions" && !recorded.canAnswer?.(type))
      reply({ ...message, decisions: [] } as { id: number });
    else if (!isReady || isRecorded(message)) recorded.send(message);
    else post({ type: "message", message });
  };

  // After the page has been drawn: unpacking takes a moment.
  setTimeout(start);

  return {
    signal: recorded.signal,
    isOffline: false,
    jobs: JOBS,
    get: <K extends TraitName>(name: K) => traits[name] as Traits[K] | undefined,
    set(values) {
      if (isReady) {
        update(values);
        post({ type: "set", values });
      } else if (values.concepts === undefined) update(values);
      else recorded.set(values);
    },
    send(message: PageMessage) {
      if (message.type === "hello") {
        if (painted.has(shownRun)) post({ type: "message", message });
        else recorded.send(message);
      } else if (message.type === "show") {
        shownRun = message.run;
        if (painted.has(message.run)) post({ type: "message", message });
        else recorded.send(message);
      } else if (message.type === "run" || message.type === "stop") post({ type: "message", message });
      else if ("id" in message) ask(message);
    },
    // The model of a page sees no images that exist: its networks have no encoder.
    canAnswer: (type) => type !== "image" && (isReady || (recorded.canAnswer?.(type) ?? false)),
    holds: (run) => !painted.has(run) && (recorded.canAnswer?.("results") ?? false),
    onChange(name, callback) {
      traitListeners.push([name, callback]);
    },
    onMessage(callback) {
      messageListeners.push(callback);
    },
    onConnection: (callback) => callback(true),
  };
}
