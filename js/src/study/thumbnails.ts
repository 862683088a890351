// The thumbnails: requested for the cells on the page, decoded before they are shown, and let go when they are many.

import type { Thumbnail } from "./sheet";

const MOST_KEPT = 1500;
const MOST_ASKED = 200;

export class Thumbnails {
  /** By row, the least recently wanted first; "" where the study has no image. */
  readonly #images = new Map<number, HTMLImageElement | "">();
  readonly #ask: (rows: readonly number[]) => void;
  readonly #decode: (data: ArrayBufferView) => Promise<HTMLImageElement>;
  #arrived: (rows: readonly number[]) => void = () => {};
  #wanted: readonly number[] = [];
  #waitsFor: ReadonlySet<number> = new Set();

  constructor(ask: (rows: readonly number[]) => void, decode = decodeImage) {
    this.#ask = ask;
    this.#decode = decode;
  }

  /** Calls back with the rows whose images have come, until the returned function is called. */
  watch(arrived: (rows: readonly number[]) => void): () => void {
    this.#arrived = arrived;
    return () => {
      this.#arrived = () => {};
    };
  }

  /** The thumbnail of a row. */
  image(row: number): Thumbnail {
    return this.#images.get(row);
  }

  /** Says which rows are on the page now; what was wanted before and has not been requested is forgotten. */
  want(rows: readonly number[]): void {
    for (const row of rows) {
      const image = this.#images.get(row);
      if (image === undefined) continue;
      this.#images.delete(row);
      this.#images.set(row, image);
    }
    this.#wanted = rows;
    this.#request();
  }

  async receive(rows: readonly number[], data: readonly ArrayBufferView[]): Promise<void> {
    const decoded = rows.map((_, index) => {
      const bytes = data[index];
      return bytes?.byteLength ? this.#decode(bytes).catch(() => "" as const) : "";
    });
    const images = await Promise.all(decoded);
    rows.forEach((row, index) => {
      this.#images.delete(row);
      this.#images.set(row, images[index] as HTMLImageElement | "");
    });
    for (const row of this.#images.keys()) {
      if (this.#images.size <= MOST_KEPT) break;
      this.#images.delete(row);
    }
    this.#waitsFor = new Set();
    this.#arrived(rows);
    this.#request();
  }

  /** Nothing arrives any more for what was requested: the next cells are. */
  failed(): void {
    this.#waitsFor = new Set();
  }

  #request(): void {
    if (this.#waitsFor.size > 0) return;
    const rows = this.#wanted.filter((row) => !this.#images.has(row)).slice(0, MOST_ASKED);
    if (rows.length === 0) return;
    this.#waitsFor = new Set(rows);
    this.#ask(rows);
  }
}

/** A data address: each blob would cost a message to the browser's process, on which the page waits. */
async function decodeImage(data: ArrayBufferView): Promise<HTMLImageElement> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const image = new Image();
  image.alt = "";
  image.decoding = "async";
  image.src = `data:image/webp;base64,${btoa(String.fromCharCode(...bytes))}`;
  await image.decode();
  return image;
}
