// The thumbnails: requested for the cells on the page, kept as addresses of blobs, and let go when they are many.

const MOST_KEPT = 1500;
const MOST_ASKED = 200;

export class Thumbnails {
  /** By row, the least recently wanted first; "" where the study has no image. */
  readonly #urls = new Map<number, string>();
  readonly #ask: (rows: readonly number[]) => void;
  readonly #arrived: () => void;
  #wanted: readonly number[] = [];
  #waitsFor: ReadonlySet<number> = new Set();

  constructor(ask: (rows: readonly number[]) => void, arrived: () => void) {
    this.#ask = ask;
    this.#arrived = arrived;
  }

  /** The address of a thumbnail; undefined until it is here. */
  url(row: number): string | undefined {
    return this.#urls.get(row);
  }

  /** Says which rows are on the page now; what was wanted before and has not been requested is forgotten. */
  want(rows: readonly number[]): void {
    for (const row of rows) {
      const url = this.#urls.get(row);
      if (url === undefined) continue;
      this.#urls.delete(row);
      this.#urls.set(row, url);
    }
    this.#wanted = rows;
    this.#request();
  }

  receive(rows: readonly number[], images: readonly ArrayBufferView[]): void {
    rows.forEach((row, index) => {
      const image = images[index];
      const old = this.#urls.get(row);
      if (old) URL.revokeObjectURL(old);
      const blob = image?.byteLength ? new Blob([image as ArrayBufferView<ArrayBuffer>], { type: "image/webp" }) : null;
      this.#urls.delete(row);
      this.#urls.set(row, blob ? URL.createObjectURL(blob) : "");
    });
    for (const [row, url] of this.#urls) {
      if (this.#urls.size <= MOST_KEPT) break;
      if (url) URL.revokeObjectURL(url);
      this.#urls.delete(row);
    }
    this.#waitsFor = new Set();
    this.#arrived();
    this.#request();
  }

  /** Nothing arrives any more for what was requested: the next cells are. */
  failed(): void {
    this.#waitsFor = new Set();
  }

  close(): void {
    for (const url of this.#urls.values()) if (url) URL.revokeObjectURL(url);
    this.#urls.clear();
  }

  #request(): void {
    if (this.#waitsFor.size > 0) return;
    const rows = this.#wanted.filter((row) => !this.#urls.has(row)).slice(0, MOST_ASKED);
    if (rows.length === 0) return;
    this.#waitsFor = new Set(rows);
    this.#ask(rows);
  }
}
