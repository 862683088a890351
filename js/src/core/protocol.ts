// The messages between kernel and page.
// The Python side is diffvis_widget/wire/messages.py; the files in tests/golden test both sides. Everything that arrives
// is validated here once, so that the rest of the page can rely on it.

import {
  bytes,
  fail,
  flag,
  list,
  listOf,
  maybe,
  number,
  object,
  oneOf,
  or,
  pair,
  type Reader,
  recordOf,
  text,
  whole,
} from "./readers";

export type View = "prediction" | "latents" | "guidance";
export type WordKind = "word" | "special" | "template" | "padding" | "truncated" | "concept";
export type Range = readonly [lo: number, hi: number];

export interface Message {
  readonly content: unknown;
  readonly buffers: readonly ArrayBufferView[];
}

export interface Word {
  readonly text: string;
  readonly token_texts: readonly string[];
  readonly kind: WordKind;
  readonly unknown: boolean;
  /** The text encoder of the word, if the model has several; else empty. */
  readonly encoder: string;
}

/** A note on a run: on a step, on words (by index), on a region of the image (left, top, right, bottom; 0..1). */
export interface Note {
  readonly text: string;
  readonly step: number | null;
  readonly words: readonly number[];
  readonly region: readonly number[] | null;
  /** What a run must show: `text` as it was written; the drawer reads the conditions. */
  readonly expects?: Expects | null;
}

export interface Expects {
  readonly text: string;
  readonly conditions: readonly unknown[];
}

const EXPECTS = object({ text, conditions: list });
/** A note; `words` reads its words. */
export const noteWith = <W>(words: Reader<W>) =>
  object({ text, step: maybe(whole), words, region: maybe(listOf(number)), expects: maybe(EXPECTS) });

export interface RunMessage {
  readonly type: "run";
  readonly run: string;
  readonly seq: number;
  readonly prompt: string;
  /** Null where it is not known. */
  readonly seed: number | null;
  readonly steps: number;
  /** Null where it is not known. */
  readonly guidance_scale: number | null;
  readonly schedule: string;
  /** Weights of words by their text in lower case; null leaves a word out. */
  readonly weights: Readonly<Record<string, number | null>>;
  /** Whether the notebook's own code made the run, not the widget. */
  readonly external: boolean;
  /** Recorded before, and shown while the model loads that makes the same run. */
  readonly shipped: boolean;
  /** With few steps; the run with all of them follows. */
  readonly draft: boolean;
  /** What the model was given, where it rewrote the prompt; "" where it did not. */
  readonly rewritten: string;
  /** The words whose refined maps are of their share among words that they exclude. */
  readonly shares: readonly string[];
  readonly words: readonly Word[];
  readonly grid: readonly [h: number, w: number];
  /** The layers whose maps can be requested; the maps of the words are means over the default ones. */
  readonly layers: readonly { readonly name: string; readonly default: boolean }[];
  readonly image: readonly [h: number, w: number];
  readonly views: readonly View[];
  readonly meter: string | null;
  /** "unknown" where the scheduler's noise levels, and so the predicted images, are not known. */
  readonly noise_levels: string;
  readonly notes: readonly Note[];
  /** The number of latent frames of a video; 1 for an image. */
  readonly frames: number;
  /** How many frames of the video each latent frame after the first stands for. */
  readonly frames_per_latent: number;
}

/** One heat map per word as bytes: value = lo + byte / 255 * (hi - lo). A word without a scale has no map. */
export interface Maps {
  readonly height: number;
  readonly width: number;
  readonly scales: readonly (Range | null)[];
  readonly data: Uint8Array;
}

export interface StepMessage {
  readonly type: "step";
  readonly run: string;
  readonly seq: number;
  readonly index: number;
  readonly timestep: number | null;
  /** Infinite, or unknown, where null: see `RunMessage.noise_levels`. */
  readonly sigma: number | null;
  /** Attention probabilities. */
  readonly maps: Maps;
  /** Maps averaged over the image's self-attention, relative to their mean; null where there are none. */
  readonly refined: Maps | null;
  readonly exact: boolean;
  /** The images that are linear previews, not decoded by the VAE: a label may say so. */
  readonly previews: readonly View[];
  readonly images: Readonly<Partial<Record<View, Uint8Array>>>;
  readonly guidance_range: Range | null;
  readonly elapsed: number;
  /** Of a video, the same step at each latent frame; the step itself is that of the first. */
  readonly frames: readonly StepMessage[] | null;
}

export interface FrameMessage {
  readonly type: "frame";
  readonly run: string;
  readonly seq: number;
  readonly index: number;
  readonly exact: boolean;
  /** Which image of the step it is. */
  readonly view: View;
  /** One image; of a video, that of each latent frame. */
  readonly images: readonly Uint8Array[];
}

type Row = readonly (number | null)[];

export interface ScoresMessage {
  readonly type: "scores";
  readonly run: string;
  readonly seq: number;
  readonly start: number;
  readonly concepts: readonly string[];
  readonly cosine: readonly Row[];
  readonly null_band: readonly (Range | null)[];
  readonly share: readonly Row[] | null;
  readonly emergence: Row;
  readonly meter: string | null;
  /** 1 present, 0 absent, null not sure; null in all for a meter that is not calibrated. */
  readonly present: readonly Row[] | null;
}

export interface EndMessage {
  readonly type: "end";
  readonly run: string;
  readonly seq: number;
  readonly state: "done" | "stopped" | "failed";
  readonly steps: number;
  readonly error: string | null;
  readonly seconds: number;
  readonly image: Uint8Array | null;
  /** The frames of the final video; empty for an image. */
  readonly video: readonly Uint8Array[];
  /** Why the image is not the one that was decoded at the last step. */
  readonly note: string | null;
}

export interface ErrorMessage {
  readonly type: "error";
  readonly run: string | null;
  readonly seq: number;
  /** The id of the request that this answers, if it was one. */
  readonly id: number | null;
  readonly message: string;
}

/** The reply to a request; its caller reads the rest of its content. */
export interface ReplyMessage extends Message {
  readonly type: "reply";
  readonly seq: number;
  readonly id: number;
}

export type KernelMessage =
  | RunMessage
  | StepMessage
  | FrameMessage
  | ScoresMessage
  | EndMessage
  | ReplyMessage
  | ErrorMessage;

interface OfRun {
  readonly run: string;
}

interface OfJob {
  readonly task: Readonly<Record<string, unknown>>;
}

/** The fields of each kind of request. Every request gets one reply. */
interface RequestFields {
  readonly more: object;
  readonly runs: object;
  readonly packed: OfRun;
  readonly saliency: OfRun;
  readonly relevance: OfRun;
  readonly results: OfRun & { readonly kind: string };
  readonly exports: OfRun;
  readonly decisions: OfRun;
  /** The Python for a view, or with null for the run. */
  readonly source_code: OfRun & { readonly view: object | null };
  readonly layers: OfRun & { readonly step: number; readonly word: number };
  readonly notes: OfRun & { readonly notes: readonly Note[] };
  readonly compare: { readonly a: string; readonly b: string };
  /** An image as base64, for the job "image". */
  readonly image: { readonly data: string };
  readonly job: OfJob;
  readonly cancel: OfJob;
}

export type KernelRequest = {
  readonly [T in keyof RequestFields]: { readonly type: T } & RequestFields[T];
}[keyof RequestFields];

export type PageMessage =
  | { readonly type: "hello"; readonly view: string; readonly run: string | null; readonly have: readonly number[] }
  | { readonly type: "ack"; readonly seq: number }
  | {
      readonly type: "run";
      readonly prompt?: string;
      readonly seed?: number;
      readonly steps?: number | null;
      readonly guidance_scale?: number | null;
      /** Paints so many seeds, one after the other. */
      readonly seeds?: number;
      /** Paints with few steps first. */
      readonly draft?: boolean;
    }
  | (KernelRequest & { readonly id: number })
  | { readonly type: "show"; readonly run: string }
  | { readonly type: "stop" };

const range = pair(number);
const size = pair(whole);
const row = listOf(maybe(number));
// A null band that could not be computed is [null, null] on the wire.
const band: Reader<Range | null> = (value, what) => {
  const [lo, hi] = or(pair(maybe(number)), [null, null] as const)(value, what);
  return lo === null || hi === null ? null : [lo, hi];
};
const view = oneOf<View>("prediction", "latents", "guidance");

// Messages in the packed form have no sequence number: none can get lost.
const HEAD = { run: text, seq: or(whole, -1) };
const META = object({ type: oneOf("run", "step", "frame", "scores", "end", "error") });
const REPLY = object({ id: whole, seq: or(whole, -1) });
const MAPS = object({ shape: listOf(whole), scales: listOf(maybe(range)) });

const SHAPES = {
  run: object({
    ...HEAD,
    prompt: text,
    seed: maybe(number),
    steps: whole,
    guidance_scale: maybe(number),
    schedule: or(text, "uniform"),
    weights: or(recordOf(maybe(number)), {}),
    external: or(flag, false),
    shipped: or(flag, false),
    draft: or(flag, false),
    rewritten: or(text, ""),
    shares: or(listOf(text), []),
    words: listOf(
      object({
        text,
        token_texts: listOf(text),
        kind: oneOf<WordKind>("word", "special", "template", "padding", "truncated", "concept"),
        unknown: flag,
        encoder: or(text, ""),
      }),
    ),
    grid: size,
    layers: listOf(object({ name: or(text, ""), default: or(flag, true) })),
    image: size,
    views: listOf(view),
    meter: maybe(text),
    noise_levels: or(text, "known"),
    notes: or(listOf(noteWith(listOf(whole))), []),
    frames: or(whole, 1),
    frames_per_latent: or(whole, 1),
  }),
  step: object({
    ...HEAD,
    index: whole,
    timestep: maybe(number),
    sigma: maybe(number),
    maps: MAPS,
    refined: or(maybe(MAPS), null),
    exact: flag,
    previews: or(listOf(view), []),
    views: listOf(view),
    guidance_range: band,
    elapsed: or(number, 0),
    frames: or(whole, 1),
  }),
  frame: object({ ...HEAD, index: whole, exact: flag, view: or<View, View>(view, "prediction") }),
  scores: object({
    ...HEAD,
    start: whole,
    concepts: listOf(text),
    cosine: listOf(row),
    null_band: listOf(band),
    share: maybe(listOf(row)),
    emergence: row,
    meter: maybe(text),
    present: or(maybe(listOf(row)), null),
  }),
  end: object({
    ...HEAD,
    state: oneOf("done", "stopped", "failed"),
    steps: whole,
    error: maybe(text),
    seconds: or(number, 0),
    note: maybe(text),
  }),
  error: object({ ...HEAD, run: maybe(text), id: maybe(whole), message: text }),
};

/** The maps of each latent frame; of an image, of one. */
function mapsOf({ shape, scales }: ReturnType<typeof MAPS>, data: ArrayBufferView | undefined, frames = 1): Maps[] {
  const [words = -1, height = 0, width = 0] = shape;
  const values = bytes(data, "maps");
  const size = words * height * width;
  if (values.length !== frames * size || scales.length !== words || frames < 1)
    fail("maps", `${values.length} bytes and ${scales.length} scales for ${shape}`);
  return Array.from({ length: frames }, (_, frame) => {
    return { height, width, scales, data: values.subarray(frame * size, (frame + 1) * size) };
  });
}

/** Validates a message; throws ProtocolError, naming the field, if it is invalid. */
export function decode({ content, buffers }: Message): KernelMessage {
  const { id, type: kind } = (content ?? {}) as { id?: unknown; type?: unknown };
  if (typeof id === "number" && kind !== "error")
    return { type: "reply", ...REPLY(content, "reply"), content, buffers };
  const { type } = META(content, "message");
  const data = buffers[0];
  switch (type) {
    case "run":
    case "scores":
    case "error":
      return { type, ...SHAPES[type](content, type) } as KernelMessage;
    case "frame":
      return {
        type,
        ...SHAPES.frame(content, type),
        images: [bytes(data, "image"), ...buffers.slice(1).map((image) => bytes(image, "image"))],
      };
    case "end":
      return {
        type,
        ...SHAPES.end(content, type),
        // A shrunk run has its video behind an empty image.
        image: data?.byteLength ? bytes(data, "image") : null,
        video: buffers.slice(1).map((image) => bytes(image, "video")),
      };
    case "step": {
      const { maps, refined, views, frames, ...rest } = SHAPES.step(content, type);
      const count = frames * views.length;
      const own = refined && (mapsOf(refined, buffers[count + 1])[0] ?? null);
      const steps = mapsOf(maps, buffers[count], frames).map((ofFrame, frame): StepMessage => {
        const images = Object.fromEntries(views.map((name, i) => [name, bytes(buffers[i * frames + frame], name)]));
        return { type, ...rest, images, maps: ofFrame, refined: own, frames: null };
      });
      return { ...(steps[0] as StepMessage), frames: frames > 1 ? steps : null };
    }
  }
}
