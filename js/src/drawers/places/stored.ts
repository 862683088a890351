// What every place attends to, where the page holds it: rows that Python stored with the run (Trace.keep_attention).

import { bytes, listOf, object, pair, type Session, text, whole } from "../../app/coreExports";
import type { AttendedImage, Attention } from "./attention";

type Grid = readonly [h: number, w: number];

export interface Stored {
  readonly steps: readonly number[];
  /** Of the image, then of each reference. */
  readonly grids: readonly Grid[];
  /** Half-precision numbers: steps x positions x keys. */
  readonly rows: Uint16Array;
  /** The encoded reference images; empty where the page does not hold them. */
  readonly images: readonly Uint8Array[];
}

const RESULT = object({
  results: listOf(object({ tensors: listOf(object({ name: text, shape: listOf(whole) })) })),
});
const ROWS = object({
  results: listOf(
    object({ header: object({ steps: listOf(whole), grid: pair(whole), reference_grids: listOf(pair(whole)) }) }),
  ),
});

/** A half-precision number of 0 or more from its bits. */
function half(bits: number): number {
  const [exponent, fraction] = [bits >> 10, bits & 1023];
  return exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
}

async function encode(pixels: Uint8Array, [h = 0, w = 0]: readonly number[]): Promise<Uint8Array> {
  const image = new ImageData(w, h);
  for (let i = 0; i < w * h; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  const canvas = new OffscreenCanvas(w, h);
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer());
}

/** What the page holds of a run; null where it holds nothing. */
export async function storedOf(session: Session, run: string): Promise<Stored | null> {
  const reply = await session.ask({ type: "results", run, kind: "image_attention" });
  const header = ROWS(reply.content, "results").results[0]?.header;
  if (!header || !reply.buffers[0]) return null;
  const data = bytes(reply.buffers[0], "rows");
  const references = await session.ask({ type: "results", run, kind: "references" }).catch(() => null);
  const tensors = references ? (RESULT(references.content, "results").results[0]?.tensors ?? []) : [];
  const images = tensors.map(({ shape }, index) => encode(bytes(references?.buffers[index], "reference"), shape));
  return {
    steps: header.steps,
    grids: [header.grid, ...header.reference_grids],
    rows: new Uint16Array(data.slice().buffer),
    images: await Promise.all(images),
  };
}

/** What a place attends to at a step; null for a step that is not stored. */
export function attentionAt(
  { steps, grids, rows, images }: Stored,
  run: string,
  step: number,
  [y, x]: readonly [y: number, x: number],
): Attention | null {
  const at = steps.indexOf(step);
  const [h, w] = grids[0] as Grid;
  if (at < 0) return null;
  const [top, left] = [Math.min(h - 1, Math.floor(y * h)), Math.min(w - 1, Math.floor(x * w))];
  const keys = grids.reduce((sum, [rowsOf, columns]) => sum + rowsOf * columns, 0);
  let start = (at * h * w + top * w + left) * keys;
  const parts = grids.map(([height, width]) => {
    const values = Array.from(rows.subarray(start, start + height * width), half);
    start += height * width;
    return { height, width, values, share: values.reduce((sum, share) => sum + share, 0) };
  });
  const total = parts.reduce((sum, { share }) => sum + share, 0);
  // In cross-attention the words have an attention of their own.
  const isShared = total < 0.999;
  const shown = parts.map(({ height, width, values, share }, index): AttendedImage => {
    const [lo, hi] = [Math.min(...values), Math.max(...values)];
    const data = Uint8Array.from(values, (value) => Math.round(((value - lo) / Math.max(hi - lo, 1e-12)) * 255));
    const image = index > 0 ? (images[index - 1] ?? null) : null;
    return { maps: { height, width, scales: [[lo, hi]], data }, share: isShared ? share : null, image };
  });
  return {
    run,
    step,
    place: [top / h, left / w, (top + 1) / h, (left + 1) / w],
    words: isShared ? 1 - total : null,
    images: shown,
  };
}
