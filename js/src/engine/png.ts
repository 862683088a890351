// Writes PNG files, not compressed: the images are small, and nothing has to wait for a compressor.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** The longest block of deflate that is not compressed. */
const BLOCK = 65535;

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** A PNG of RGB bytes. */
export function encodePng(pixels: Uint8Array, height: number, width: number): Uint8Array {
  const row = 3 * width + 1;
  const raw = new Uint8Array(row * height);
  for (let y = 0; y < height; y++) raw.set(pixels.subarray(3 * width * y, 3 * width * (y + 1)), row * y + 1);
  const header = new Uint8Array(13);
  const fields = new DataView(header.buffer);
  fields.setUint32(0, width);
  fields.setUint32(4, height);
  header.set([8, 2], 8); // 8 bits, RGB
  const parts = [chunk("IHDR", header), chunk("IDAT", store(raw)), chunk("IEND", new Uint8Array(0))];
  return join([Uint8Array.from(SIGNATURE), ...parts]);
}

/** A PNG of a map in grey: `lo` is black, `hi` is white. */
export function encodeGrey(values: ArrayLike<number>, side: number, lo: number, hi: number): Uint8Array {
  const pixels = new Uint8Array(3 * side * side);
  for (let i = 0; i < side * side; i++) {
    const share = ((values[i] as number) - lo) / Math.max(hi - lo, 1e-12);
    pixels.fill(Math.round(255 * Math.min(1, Math.max(0, share))), 3 * i, 3 * i + 3);
  }
  return encodePng(pixels, side, side);
}

/** Bytes as a zlib stream of stored blocks. */
function store(raw: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [Uint8Array.of(0x78, 0x01)];
  for (let start = 0; start < raw.length; start += BLOCK) {
    const block = raw.subarray(start, start + BLOCK);
    const isLast = start + BLOCK >= raw.length ? 1 : 0;
    const { length } = block;
    parts.push(Uint8Array.of(isLast, length & 255, length >> 8, ~length & 255, (~length >> 8) & 255), block);
  }
  let a = 1;
  let b = 0;
  for (const byte of raw) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return join([...parts, Uint8Array.of(b >> 8, b & 255, a >> 8, a & 255)]);
}

function chunk(name: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  let crc = 0xffffffff;
  for (const byte of bytes.subarray(4, 8 + data.length)) crc = (CRC[(crc ^ byte) & 255] as number) ^ (crc >>> 8);
  view.setUint32(8 + data.length, ~crc >>> 0);
  return bytes;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}
