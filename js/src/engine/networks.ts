// The networks of the scenes model, by onnxruntime-web on one CPU thread.

import * as ort from "onnxruntime-web/wasm";

export const NETWORKS = ["text_encoder", "unet", "decoder", "image_meter", "text_meter"] as const;
export type NetworkName = (typeof NETWORKS)[number];

/** A network as the page carries it. */
export interface NetworkFiles {
  readonly graph: Uint8Array;
  /** Half precision, in the order of the graph. */
  readonly weights: Uint8Array;
}

export type Array32 = Float32Array<ArrayBufferLike>;

export interface Evaluation {
  readonly prediction: Array32;
  /** Self-attention (rows, positions, positions) of the layer that refines maps, mean over heads. */
  readonly selfAttention: Array32;
  /** Attention probabilities (rows, heads, positions, tokens) of each layer. */
  readonly maps: readonly Array32[];
  /** Those of the words outside the prompt (words, heads, positions) in the last row, of each layer. */
  readonly outside: readonly Array32[];
}

/** Words outside the prompt, each in a prompt of its own. */
export interface OutsideInput {
  /** Embeddings (words, tokens, width) of these prompts. */
  readonly text: Array32;
  /** Which tokens (words, tokens) are those of the word: 1, else 0. */
  readonly members: Array32;
  readonly words: number;
}

/** Text tokens of a prompt. */
export const TOKENS = 32;
const TEXT_WIDTH = 128;
/** The graph needs one word outside the prompt at least: this one, of two tokens, stands for none and costs little. */
const NO_WORD: OutsideInput = { text: new Float32Array(2 * TEXT_WIDTH), members: Float32Array.of(0, 1), words: 1 };
const LATENT_SHAPE = [4, 12, 12] as const;
export const LATENT_SIZE = 4 * 12 * 12;
export const IMAGE_SIDE = 96;

let float32OfHalf: Float32Array | undefined;

/** The float32 value of each of the 65536 half-precision numbers. */
function halfTable(): Float32Array {
  if (float32OfHalf) return float32OfHalf;
  const table = new Float32Array(65536);
  for (let bits = 0; bits < table.length; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) table[bits] = sign * fraction * 2 ** -24;
    else if (exponent === 31) table[bits] = fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    else table[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  float32OfHalf = table;
  return table;
}

/** Half-precision numbers as float32. */
function widen(half: Uint8Array): Float32Array {
  const table = halfTable();
  const view = new DataView(half.buffer, half.byteOffset, half.byteLength);
  const wide = new Float32Array(half.byteLength >> 1);
  for (let i = 0; i < wide.length; i++) wide[i] = table[view.getUint16(2 * i, true)] as number;
  return wide;
}

export class Networks {
  private constructor(private readonly sessions: ReadonlyMap<NetworkName, ort.InferenceSession>) {}

  /** `wasm`: onnxruntime's own program. Throws if WebAssembly or memory is missing, or if a file is damaged. */
  static async load(
    wasm: ArrayBuffer,
    files: Readonly<Record<NetworkName, NetworkFiles>>,
    onProgress: (share: number) => void,
  ): Promise<Networks> {
    // A page opened from a file has no shared memory, which threads need.
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = wasm;
    const sessions = new Map<NetworkName, ort.InferenceSession>();
    for (const name of NETWORKS) {
      const { graph, weights } = files[name];
      const data = new Uint8Array(widen(weights).buffer);
      const session = await ort.InferenceSession.create(graph, {
        executionProviders: ["wasm"],
        externalData: [{ path: name, data }],
        // The graphs are optimised already.
        graphOptimizationLevel: "disabled",
      });
      sessions.set(name, session);
      onProgress(sessions.size / NETWORKS.length);
    }
    return new Networks(sessions);
  }

  async #run(name: NetworkName, feeds: Readonly<Record<string, ort.Tensor>>): Promise<readonly ort.Tensor[]> {
    const session = this.sessions.get(name) as ort.InferenceSession;
    const results = await session.run(feeds);
    return session.outputNames.map((output) => results[output] as ort.Tensor);
  }

  /** Embeddings (rows, tokens, width) of prompts. */
  async encodeText(rows: readonly (readonly number[])[]): Promise<Array32> {
    const [text] = await this.#run("text_encoder", { ids: idTensor(rows) });
    return (text as ort.Tensor).data as Array32;
  }

  /** One evaluation of the U-Net; `mask` is added to the scores of text tokens, `factors` multiply their values. */
  async denoise(
    latents: Array32,
    timestep: number,
    text: Array32,
    mask: Array32,
    factors: Array32,
    outside: OutsideInput | null,
  ): Promise<Evaluation> {
    const rows = latents.length / LATENT_SIZE;
    const concepts = outside ?? NO_WORD;
    const shape = [concepts.words, concepts.members.length / concepts.words];
    const [prediction, selfAttention, ...attention] = await this.#run("unet", {
      latents: new ort.Tensor("float32", latents, [rows, ...LATENT_SHAPE]),
      timestep: new ort.Tensor("float32", Float32Array.of(timestep), [1]),
      text: new ort.Tensor("float32", text, [rows, TOKENS, TEXT_WIDTH]),
      mask: new ort.Tensor("float32", mask, [rows, TOKENS]),
      factors: new ort.Tensor("float32", factors, [rows, TOKENS]),
      concepts: new ort.Tensor("float32", concepts.text, [...shape, TEXT_WIDTH]),
      members: new ort.Tensor("float32", concepts.members, shape),
    });
    const maps = attention.map((map) => map.data as Array32);
    const layers = maps.length / 2;
    return {
      prediction: prediction?.data as Array32,
      selfAttention: selfAttention?.data as Array32,
      maps: maps.slice(0, layers),
      outside: outside ? maps.slice(layers) : [],
    };
  }

  /** The image of latents: RGB bytes. */
  async decode(latents: Array32): Promise<Uint8Array> {
    const [image] = await this.#run("decoder", {
      latents: new ort.Tensor("float32", latents, [1, ...LATENT_SHAPE]),
    });
    return image?.data as Uint8Array;
  }

  /** The unit vector of an image, for the concept meter. */
  async imageFeatures(pixels: Uint8Array): Promise<Array32> {
    const images = new ort.Tensor("uint8", pixels, [1, IMAGE_SIDE, IMAGE_SIDE, 3]);
    const [features] = await this.#run("image_meter", { images });
    return features?.data as Array32;
  }

  /** The unit vectors of texts, one after the other. */
  async textFeatures(rows: readonly (readonly number[])[]): Promise<Array32> {
    const [features] = await this.#run("text_meter", { ids: idTensor(rows) });
    return features?.data as Array32;
  }
}

function idTensor(rows: readonly (readonly number[])[]): ort.Tensor {
  return new ort.Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, TOKENS]);
}
