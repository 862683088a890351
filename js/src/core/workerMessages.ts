// The messages between a page that paints and the worker of its engine.

import type { Traits } from "./host";
import type { PageMessage } from "./protocol";

export type ToWorker =
  /** The model and onnxruntime's program: base64 of gzip, as the page carries them. */
  | { readonly type: "start"; readonly wasm: string; readonly model: string }
  | { readonly type: "message"; readonly message: PageMessage }
  | { readonly type: "set"; readonly values: Partial<Traits> };

export type FromWorker =
  | { readonly type: "progress"; readonly share: number }
  | { readonly type: "ready" }
  | { readonly type: "failed"; readonly reason: string }
  | { readonly type: "message"; readonly content: unknown; readonly buffers: readonly Uint8Array[] }
  | { readonly type: "traits"; readonly traits: Partial<Traits> };
