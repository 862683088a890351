// The messages between kernel and page, and the packed form of a run (`_snapshot`, files).
// The Python side is diffvis_widget/widget/protocol.py; the files in tests/golden hold both sides to one meaning.
// Everything that arrives is checked here once, so that the rest of the page can rely on it.

export type View = "prediction" | "latents" | "guidance";
export type WordKind = "word" | "special" | "template" | "padding" | "truncated";
export type Range = readonly [lo: number, hi: number];

export interface Message {
  readonly content: unknown;
  readonly buffers: readonly ArrayBufferView[];
}

export interface Word {
  readonly text: string;
  readonly pieces: readonly string[];
  readonly kind: WordKind;
  readonly unknown: boolean;
  /** The text encoder that reads it, where a model has several. */
  readonly stream: string;
}

/** What a teacher pinned to a run: to a step, to words by their index, to a part of the picture (left, top, right, bottom). */
export interface Note {
  readonly text: string;
  readonly step: number | null;
  readonly words: readonly number[];
  readonly place: readonly number[] | null;
}

export interface RunMessage {
  readonly type: "run";
  readonly run: string;
  readonly seq: number;
  readonly prompt: string;
  readonly steps: number;
  readonly words: readonly Word[];
  readonly grid: readonly [h: number, w: number];
  /** How many layers can be asked for. */
  readonly layers: number;
  readonly image: readonly [h: number, w: number];
  readonly views: readonly View[];
  readonly meter: string | null;
  readonly notes: readonly Note[];
}

/** One heat map per word as bytes: value = lo + byte / 255 * (hi - lo); no scale means no map was kept of the word. */
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
  readonly sigma: number | null;
  readonly maps: Maps;
  readonly exact: boolean;
  readonly images: Readonly<Partial<Record<View, Uint8Array>>>;
  readonly guidance_range: Range | null;
  readonly elapsed: number;
}

export interface FrameMessage {
  readonly type: "frame";
  readonly run: string;
  readonly seq: number;
  readonly index: number;
  readonly exact: boolean;
  readonly image: Uint8Array;
}

type Row = readonly (number | null)[];

export interface ScoresMessage {
  readonly type: "scores";
  readonly run: string;
  readonly seq: number;
  readonly start: number;
  readonly concepts: readonly string[];
  readonly cosine: readonly Row[];
  readonly null: readonly (Range | null)[];
  readonly share: readonly Row[] | null;
  readonly emergence: Row;
  readonly meter: string | null;
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
}

export interface ErrorMessage {
  readonly type: "error";
  readonly run: string | null;
  readonly seq: number;
  /** The question that this answers, if it was one. */
  readonly id: number | null;
  readonly message: string;
}

/** The answer to a question: handed on unread, for only who asked knows what it holds. */
export interface AnswerMessage extends Message {
  readonly type: "answer";
  readonly seq: number;
  readonly id: number;
}

export type KernelMessage =
  | RunMessage
  | StepMessage
  | FrameMessage
  | ScoresMessage
  | EndMessage
  | AnswerMessage
  | ErrorMessage;

/** What the page asks, and gets one answer to. */
export type Question =
  | { readonly type: "more" | "runs" }
  | { readonly type: "packed" | "saliency" | "relevance" | "exports" | "decisions"; readonly run: string }
  | { readonly type: "notes"; readonly run: string; readonly notes: readonly Note[] }
  | { readonly type: "compare"; readonly a: string; readonly b: string }
  | { readonly type: "work" | "drop"; readonly task: Readonly<Record<string, unknown>> }
  | { readonly type: "layers"; readonly run: string; readonly step: number; readonly word: number };

export type PageMessage =
  | { readonly type: "hello"; readonly view: string; readonly run: string | null; readonly have: readonly number[] }
  | { readonly type: "ack"; readonly seq: number }
  | {
      readonly type: "run";
      readonly prompt?: string;
      readonly seed?: number;
      readonly steps?: number;
      readonly guidance_scale?: number;
    }
  | (Question & { readonly id: number })
  | { readonly type: "show"; readonly run: string }
  | { readonly type: "stop" };

/** A message that does not keep to the protocol. */
export class ProtocolError extends Error {}

/** Reads a value that must be of one kind; `what` names it in the error. */
type Reader<T> = (value: unknown, what: string) => T;
type Read<Shape> = { readonly [Name in keyof Shape]: Shape[Name] extends Reader<infer T> ? T : never };

function fail(what: string, problem: unknown): never {
  throw new ProtocolError(`${what}: ${problem}`);
}

const list: Reader<unknown[]> = (value, what) => (Array.isArray(value) ? value : fail(what, "no list"));
export const text: Reader<string> = (value, what) => (typeof value === "string" ? value : fail(what, "no string"));
const flag: Reader<boolean> = (value) => value === true;
export const number: Reader<number> = (value, what) =>
  typeof value === "number" && Number.isFinite(value) ? value : fail(what, "no number");
export const whole: Reader<number> = (value, what) =>
  Number.isInteger(value) && (value as number) >= 0 ? (value as number) : fail(what, "no index");

function or<T, Other>(read: Reader<T>, other: Other): Reader<T | Other> {
  return (value, what) => (value === null || value === undefined ? other : read(value, what));
}

export function maybe<T>(read: Reader<T>): Reader<T | null> {
  return or(read, null);
}

export function listOf<T>(read: Reader<T>): Reader<T[]> {
  return (value, what) => list(value, what).map((entry) => read(entry, what));
}

function oneOf<T extends string>(...allowed: readonly T[]): Reader<T> {
  return (value, what) => allowed.find((entry) => entry === value) ?? fail(what, value);
}

/** An object with these fields; others it may have are left alone. */
export function object<Shape extends Record<string, Reader<unknown>>>(shape: Shape): Reader<Read<Shape>> {
  return (value, what) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) fail(what, "no object");
    const found = value as Record<string, unknown>;
    const read = Object.entries(shape).map(([name, reader]) => [name, reader(found[name], name)]);
    return Object.fromEntries(read) as Read<Shape>;
  };
}

export function pair<T>(read: Reader<T>): Reader<[T, T]> {
  return (value, what) => {
    const [a, b] = list(value, what);
    return [read(a, what), read(b, what)];
  };
}

const range = pair(number);
const size = pair(whole);
const row = listOf(maybe(number));
// A null band of which one end could not be computed ([null, null] on the wire) is no band.
const band: Reader<Range | null> = (value, what) => {
  const [lo, hi] = or(pair(maybe(number)), [null, null] as const)(value, what);
  return lo === null || hi === null ? null : [lo, hi];
};
const view = oneOf<View>("prediction", "latents", "guidance");

/** The bytes of a buffer, which may be a view into a larger message. */
export function bytes(buffer: ArrayBufferView | undefined, what: string): Uint8Array {
  if (buffer === undefined) fail(what, "buffer missing");
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

// Messages in the packed form need no sequence number: nothing can get lost there.
const HEAD = { run: text, seq: or(whole, -1) };
const META = object({ type: oneOf("run", "step", "frame", "scores", "end", "error") });
const ANSWER = object({ id: whole, seq: or(whole, -1) });
const SHAPES = {
  run: object({
    ...HEAD,
    prompt: text,
    steps: whole,
    words: listOf(
      object({
        text,
        pieces: listOf(text),
        kind: oneOf<WordKind>("word", "special", "template", "padding", "truncated"),
        unknown: flag,
        stream: or(text, ""),
      }),
    ),
    grid: size,
    layers: (value: unknown, what: string) => list(value, what).length,
    image: size,
    views: listOf(view),
    meter: maybe(text),
    notes: or(listOf(object({ text, step: maybe(whole), words: listOf(whole), place: maybe(listOf(number)) })), []),
  }),
  step: object({
    ...HEAD,
    index: whole,
    timestep: maybe(number),
    sigma: maybe(number),
    maps: object({ shape: listOf(whole), scales: listOf(maybe(range)) }),
    exact: flag,
    views: listOf(view),
    guidance_range: band,
    elapsed: or(number, 0),
  }),
  frame: object({ ...HEAD, index: whole, exact: flag }),
  scores: object({
    ...HEAD,
    start: whole,
    concepts: listOf(text),
    cosine: listOf(row),
    null: listOf(band),
    share: maybe(listOf(row)),
    emergence: row,
    meter: maybe(text),
  }),
  end: object({
    ...HEAD,
    state: oneOf("done", "stopped", "failed"),
    steps: whole,
    error: maybe(text),
    seconds: or(number, 0),
  }),
  error: object({ ...HEAD, run: maybe(text), id: maybe(whole), message: text }),
};

/** Checks a message and gives it its type; throws ProtocolError, naming the field, if it does not fit. */
export function decode({ content, buffers }: Message): KernelMessage {
  const { id, type: kind } = (content ?? {}) as { id?: unknown; type?: unknown };
  if (typeof id === "number" && kind !== "error")
    return { type: "answer", ...ANSWER(content, "answer"), content, buffers };
  const { type } = META(content, "message");
  const data = buffers[0];
  switch (type) {
    case "run":
    case "scores":
    case "error":
      return { type, ...SHAPES[type](content, type) } as KernelMessage;
    case "frame":
      return { type, ...SHAPES.frame(content, type), image: bytes(data, "image") };
    case "end":
      return { type, ...SHAPES.end(content, type), image: data === undefined ? null : bytes(data, "image") };
    case "step": {
      const { maps, views, ...rest } = SHAPES.step(content, type);
      const { shape, scales } = maps;
      const [words = -1, height = 0, width = 0] = shape;
      const values = bytes(buffers[views.length], "maps");
      if (values.length !== words * height * width || scales.length !== words)
        fail("maps", `${values.length} bytes and ${scales.length} scales for ${shape}`);
      const images = Object.fromEntries(views.map((name, i) => [name, bytes(buffers[i], name)]));
      return { type, ...rest, images, maps: { height, width, scales, data: values } };
    }
  }
}

const MAGIC = [0x44, 0x56, 0x52, 0x31]; // "DVR1"

/** Messages as one byte string: magic, header length (uint32, little endian), JSON header, all buffers. */
export function pack(messages: readonly Message[]): Uint8Array {
  const entries = messages.map((m) => ({ content: m.content, buffers: m.buffers.map((buffer) => buffer.byteLength) }));
  const header = new TextEncoder().encode(JSON.stringify({ messages: entries }));
  const parts = messages.flatMap((m) => m.buffers.map((buffer) => bytes(buffer, "buffer")));
  const packed = new Uint8Array(8 + header.length + parts.reduce((sum, part) => sum + part.length, 0));
  packed.set(MAGIC);
  new DataView(packed.buffer).setUint32(4, header.length, true);
  packed.set(header, 8);
  let offset = 8 + header.length;
  for (const part of parts) {
    packed.set(part, offset);
    offset += part.length;
  }
  return packed;
}

const PACKED = object({ messages: listOf(object({ content: (value: unknown) => value, buffers: listOf(whole) })) });

/** The messages in a packed run; throws ProtocolError if it is cut short or something else. */
export function unpack(packed: ArrayBufferView): Message[] {
  const what = "packed run";
  const data = bytes(packed, what);
  if (data.length < 8 || MAGIC.some((byte, i) => data[i] !== byte)) fail(what, "something else");
  const length = new DataView(data.buffer, data.byteOffset, 8).getUint32(4, true);
  let offset = 8 + length;
  if (offset > data.length) fail(what, "cut short");
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(8, offset)));
  } catch {
    fail(what, "no readable header");
  }
  const messages = PACKED(header, "header").messages.map(({ content, buffers }) => ({
    content,
    buffers: buffers.map((length) => {
      const start = offset;
      offset += length;
      if (offset > data.length) fail(what, "cut short");
      return data.subarray(start, offset);
    }),
  }));
  if (offset !== data.length) fail(what, "bytes of no message");
  return messages;
}
