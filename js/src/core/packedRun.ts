// The packed form of a run (`_snapshot`, compact files): its messages as one byte string.

import type { Message } from "./protocol";
import { bytes, fail, listOf, object, whole } from "./readers";

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
