// The script of the engine's worker: unpacks the model, then runs the kernel.

import { unpack } from "../core/packedRun";
import type { FromWorker, ToWorker } from "../core/workerMessages";
import { EngineKernel } from "./kernel";
import { NETWORKS, type NetworkFiles, type NetworkName, Networks } from "./networks";
import { readSettings } from "./settings";

const worker = self as unknown as {
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
  postMessage(message: FromWorker, transfer?: Transferable[]): void;
};

/** The share of loading that unpacking takes. */
const UNPACKED = 0.4;

async function gunzip(base64: string): Promise<Uint8Array<ArrayBuffer>> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackModel(wasm: string, model: string) {
  try {
    const [program, packed] = [await gunzip(wasm), await gunzip(model)];
    const { content, buffers } = unpack(packed)[0] ?? { content: null, buffers: [] };
    const files = Object.fromEntries(
      NETWORKS.map((name, i) => [name, { graph: buffers[2 * i], weights: buffers[2 * i + 1] }]),
    ) as unknown as Record<NetworkName, NetworkFiles>;
    return { program: program.buffer, files, settings: readSettings(content, "settings") };
  } catch {
    throw new Error("The model in this page is damaged, so nothing new can be painted: get the page again.");
  }
}

async function start(wasm: string, model: string): Promise<EngineKernel> {
  const { program, files, settings } = await unpackModel(wasm, model);
  worker.postMessage({ type: "progress", share: UNPACKED });
  try {
    const networks = await Networks.load(program, files, (share) =>
      worker.postMessage({ type: "progress", share: UNPACKED + (1 - UNPACKED) * share }),
    );
    return new EngineKernel(networks, settings, {
      send: ({ content, buffers }) =>
        worker.postMessage({ type: "message", content, buffers: buffers as readonly Uint8Array[] }),
      setTraits: (traits) => worker.postMessage({ type: "traits", traits }),
    });
  } catch (error) {
    const detail = error instanceof Error ? error.message.split("\n")[0] : String(error);
    const isMemory = error instanceof RangeError || /memory|bad_alloc/i.test(String(detail));
    throw new Error(
      isMemory
        ? "This browser has not enough memory for the model (about 400 MB): close other pages, then open this one again."
        : `The model could not be started in this browser (${detail}).`,
    );
  }
}

let kernel: EngineKernel | null = null;

worker.onmessage = async ({ data }) => {
  if (data.type === "message") kernel?.receive(data.message);
  else if (data.type === "set") kernel?.set(data.values);
  else {
    try {
      kernel = await start(data.wasm, data.model);
      worker.postMessage({ type: "ready" });
    } catch (error) {
      worker.postMessage({ type: "failed", reason: (error as Error).message });
    }
  }
};
