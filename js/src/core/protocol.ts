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
  readonly tokens: readonly number[];
  readonly pieces: readonly string[];
  readonly kind: WordKind;
  readonly unknown: boolean;
  /** The text encoder that reads it, where a model has several. */
  readonly stream: string;
}

export interface RunMessage {
  readonly type: "run";
  readonly run: string;
  readonly seq: number;
  readonly prompt: string;
  readonly negativePrompt: string | null;
  readonly seed: number | null;
  readonly steps: number;
  readonly guidanceScale: number | null;
  readonly scheduler: string;
  readonly pipeline: string;
  readonly words: readonly Word[];
  readonly grid: readonly [h: number, w: number];
  readonly image: readonly [h: number, w: number];
  readonly views: readonly View[];
  readonly meter: string | null;
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
  readonly secondOrder: boolean;
  readonly maps: Maps;
  readonly exact: boolean;
  readonly images: Readonly<Partial<Record<View, Uint8Array>>>;
  readonly guidanceRange: Range | null;
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
  readonly message: string;
}

export type KernelMessage = RunMessage | StepMessage | FrameMessage | ScoresMessage | EndMessage | ErrorMessage;

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
  | { readonly type: "stop" };

/** A message that does not keep to the protocol. */
export class ProtocolError extends Error {}

type Fields = Record<string, unknown>;

function fields(value: unknown, what: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ProtocolError(`${what}: no object`);
  return value as Fields;
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new ProtocolError(`${what}: no list`);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== "string") throw new ProtocolError(`${what}: no string`);
  return value;
}

function number(value: unknown, what: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new ProtocolError(`${what}: no number`);
  return value;
}

function whole(value: unknown, what: string): number {
  const n = number(value, what);
  if (!Number.isInteger(n) || n < 0) throw new ProtocolError(`${what}: no index`);
  return n;
}

function maybe<T>(value: unknown, read: (value: unknown, what: string) => T, what: string): T | null {
  return value === null || value === undefined ? null : read(value, what);
}

function range(value: unknown, what: string): Range {
  const [lo, hi] = list(value, what);
  return [number(lo, what), number(hi, what)];
}

// A null band of which one end could not be computed ([null, null] on the wire) is no band.
function band(value: unknown, what: string): Range | null {
  const ends = maybe(value, list, what);
  return ends === null || ends.some((end) => end === null) ? null : range(ends, what);
}

function size(value: unknown, what: string): [number, number] {
  const [h, w] = list(value, what);
  return [whole(h, what), whole(w, what)];
}

function row(value: unknown, what: string): (number | null)[] {
  return list(value, what).map((entry) => maybe(entry, number, what));
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], what: string): T {
  const found = allowed.find((entry) => entry === value);
  if (found === undefined) throw new ProtocolError(`${what}: ${String(value)}`);
  return found;
}

const VIEWS: readonly View[] = ["prediction", "latents", "guidance"];
const KINDS: readonly WordKind[] = ["word", "special", "template", "padding", "truncated"];

/** The bytes of a buffer, which may be a view into a larger message. */
export function bytes(buffer: ArrayBufferView | undefined, what: string): Uint8Array {
  if (buffer === undefined) throw new ProtocolError(`${what}: buffer missing`);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Checks a message and gives it its type; throws ProtocolError, naming the field, if it does not fit. */
export function decode({ content, buffers }: Message): KernelMessage {
  const f = fields(content, "message");
  const type = oneOf(f.type, ["run", "step", "frame", "scores", "end", "error"] as const, "type");
  // Messages in the packed form need no sequence number: nothing can get lost there.
  const seq = maybe(f.seq, whole, "seq") ?? -1;
  if (type === "error") return { type, seq, run: maybe(f.run, text, "run"), message: text(f.message, "message") };
  const run = text(f.run, "run");
  switch (type) {
    case "run":
      return {
        type,
        run,
        seq,
        prompt: text(f.prompt, "prompt"),
        negativePrompt: maybe(f.negative_prompt, text, "negative_prompt"),
        seed: maybe(f.seed, number, "seed"),
        steps: whole(f.steps, "steps"),
        guidanceScale: maybe(f.guidance_scale, number, "guidance_scale"),
        scheduler: text(f.scheduler, "scheduler"),
        pipeline: text(f.pipeline, "pipeline"),
        words: list(f.words, "words").map(decodeWord),
        grid: size(f.grid, "grid"),
        image: size(f.image, "image"),
        views: list(f.views, "views").map((view) => oneOf(view, VIEWS, "views")),
        meter: maybe(f.meter, text, "meter"),
      };
    case "step":
      return decodeStep(f, run, seq, buffers);
    case "frame":
      return {
        type,
        run,
        seq,
        index: whole(f.index, "index"),
        exact: f.exact === true,
        image: bytes(buffers[0], "image"),
      };
    case "scores":
      return {
        type,
        run,
        seq,
        start: whole(f.start, "start"),
        concepts: list(f.concepts, "concepts").map((concept) => text(concept, "concepts")),
        cosine: list(f.cosine, "cosine").map((entry) => row(entry, "cosine")),
        null: list(f.null, "null").map((entry) => band(entry, "null")),
        share: maybe(f.share, list, "share")?.map((entry) => row(entry, "share")) ?? null,
        emergence: row(f.emergence, "emergence"),
        meter: maybe(f.meter, text, "meter"),
      };
    case "end":
      return {
        type,
        run,
        seq,
        state: oneOf(f.state, ["done", "stopped", "failed"] as const, "state"),
        steps: whole(f.steps, "steps"),
        error: maybe(f.error, text, "error"),
        seconds: maybe(f.seconds, number, "seconds") ?? 0,
        image: buffers[0] === undefined ? null : bytes(buffers[0], "image"),
      };
  }
}

function decodeWord(value: unknown): Word {
  const f = fields(value, "word");
  return {
    text: text(f.text, "text"),
    tokens: list(f.tokens, "tokens").map((token) => whole(token, "tokens")),
    pieces: list(f.pieces, "pieces").map((piece) => text(piece, "pieces")),
    kind: oneOf(f.kind, KINDS, "kind"),
    unknown: f.unknown === true,
    stream: maybe(f.stream, text, "stream") ?? "",
  };
}

function decodeStep(f: Fields, run: string, seq: number, buffers: readonly ArrayBufferView[]): StepMessage {
  const views = list(f.views, "views").map((view) => oneOf(view, VIEWS, "views"));
  const maps = fields(f.maps, "maps");
  const [words, height, width] = list(maps.shape, "shape").map((n) => whole(n, "shape"));
  if (words === undefined || height === undefined || width === undefined)
    throw new ProtocolError("shape: not (words, h, w)");
  const scales = list(maps.scales, "scales").map((scale) => maybe(scale, range, "scales"));
  const data = bytes(buffers[views.length], "maps");
  if (data.length !== words * height * width || scales.length !== words) {
    throw new ProtocolError(
      `maps: ${data.length} bytes and ${scales.length} scales for ${words} x ${height} x ${width}`,
    );
  }
  const images: Partial<Record<View, Uint8Array>> = {};
  views.forEach((view, i) => {
    images[view] = bytes(buffers[i], view);
  });
  return {
    type: "step",
    run,
    seq,
    index: whole(f.index, "index"),
    timestep: maybe(f.timestep, number, "timestep"),
    sigma: maybe(f.sigma, number, "sigma"),
    secondOrder: f.second_order === true,
    maps: { height, width, scales, data },
    exact: f.exact === true,
    images,
    guidanceRange: band(f.guidance_range, "guidance_range"),
    elapsed: maybe(f.elapsed, number, "elapsed") ?? 0,
  };
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

/** The messages in a packed run; throws ProtocolError if it is cut short or something else. */
export function unpack(packed: ArrayBufferView): Message[] {
  const data = bytes(packed, "packed run");
  if (data.length < 8 || MAGIC.some((byte, i) => data[i] !== byte)) throw new ProtocolError("not a packed run");
  const length = new DataView(data.buffer, data.byteOffset, 8).getUint32(4, true);
  if (8 + length > data.length) throw new ProtocolError("packed run is cut short");
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(8, 8 + length)));
  } catch {
    throw new ProtocolError("packed run has no readable header");
  }
  let offset = 8 + length;
  const messages = list(fields(header, "header").messages, "messages").map((entry) => {
    const f = fields(entry, "message");
    const buffers = list(f.buffers, "buffers").map((length) => {
      const end = offset + whole(length, "buffers");
      if (end > data.length) throw new ProtocolError("packed run is cut short");
      const buffer = data.subarray(offset, end);
      offset = end;
      return buffer;
    });
    return { content: f.content, buffers };
  });
  if (offset !== data.length) throw new ProtocolError("packed run carries bytes of no message");
  return messages;
}
