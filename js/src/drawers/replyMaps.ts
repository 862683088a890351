// The maps of a reply, which stand one after the other in its first buffer.

import { bytes, type Maps } from "../app/coreExports";

interface Entry {
  readonly grid: readonly [h: number, w: number];
  readonly scale: readonly [number, number] | null;
}

/** One map alone for each entry; throws an Error if the bytes do not match the entries. */
export function replyMaps(buffer: ArrayBufferView | undefined, entries: readonly Entry[]): Maps[] {
  const values = bytes(buffer, "maps");
  let end = 0;
  const maps = entries.map(({ grid: [height, width], scale }) => {
    const start = end;
    end += height * width;
    return { height, width, scales: [scale], data: values.subarray(start, end) };
  });
  if (end !== values.length) throw new Error(`maps: ${values.length} bytes for ${end} cells`);
  return maps;
}
