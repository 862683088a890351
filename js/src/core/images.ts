// Decodes images, and caches the most recently used bitmaps.

/** Pixels in the cache of a view (4 bytes each): a hundred frames of 512 x 512. */
const BUDGET = 26_000_000;

export type Decoder = (bytes: Uint8Array) => Promise<ImageBitmap>;

function mime(bytes: Uint8Array): string {
  if (bytes[0] === 0x89) return "image/png";
  return bytes[0] === 0xff ? "image/jpeg" : "image/webp";
}

const decodeBitmap: Decoder = (bytes) =>
  createImageBitmap(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: mime(bytes) }));

export class ImageCache {
  readonly #ready = new Map<Uint8Array, ImageBitmap>();
  readonly #waiting = new Map<Uint8Array, Promise<ImageBitmap | null>>();
  #pixels = 0;
  #closed = false;

  constructor(
    private readonly decoder: Decoder = decodeBitmap,
    private readonly budget = BUDGET,
  ) {}

  /** The bitmap if it is decoded. */
  get(bytes: Uint8Array): ImageBitmap | undefined {
    const bitmap = this.#ready.get(bytes);
    if (bitmap) {
      this.#ready.delete(bytes);
      this.#ready.set(bytes, bitmap);
    }
    return bitmap;
  }

  /** The bitmap once it is decoded; null if the bytes are no image. */
  load(bytes: Uint8Array): Promise<ImageBitmap | null> {
    const ready = this.get(bytes);
    if (ready) return Promise.resolve(ready);
    let waiting = this.#waiting.get(bytes);
    if (!waiting) {
      waiting = this.decoder(bytes).then(
        (bitmap) => this.#keep(bytes, bitmap),
        () => null,
      );
      this.#waiting.set(bytes, waiting);
    }
    return waiting;
  }

  #keep(bytes: Uint8Array, bitmap: ImageBitmap): ImageBitmap {
    this.#waiting.delete(bytes);
    if (this.#closed) return bitmap;
    this.#ready.set(bytes, bitmap);
    this.#pixels += bitmap.width * bitmap.height;
    for (const [oldest, old] of this.#ready) {
      if (this.#pixels <= this.budget || oldest === bytes) break;
      this.#ready.delete(oldest);
      this.#pixels -= old.width * old.height;
      // Not closed: it may still be drawn.
    }
    return bitmap;
  }

  close(): void {
    this.#closed = true;
    for (const bitmap of this.#ready.values()) bitmap.close();
    this.#ready.clear();
    this.#pixels = 0;
  }
}
