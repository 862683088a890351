// A cheap approximate decoder: an affine map from the four channels of a latent pixel to RGB, fitted to exact images.

import { type Array32, IMAGE_SIDE, LATENT_SIZE } from "./networks";

const SIDE = 12;
const CHANNELS = LATENT_SIZE / SIDE ** 2;
const COLUMNS = CHANNELS + 1;
const SCALE = IMAGE_SIDE / SIDE;

export class Preview {
  /** Sums over all latent pixels so far: of the products of the columns, and of columns and colours. */
  readonly #gram = new Float64Array(COLUMNS * COLUMNS);
  readonly #moment = new Float64Array(COLUMNS * 3);
  #factors: Float64Array | null = null;

  /** Whether there is a map yet. */
  get isFitted(): boolean {
    return this.#factors !== null;
  }

  /** Fits the map to this and all earlier exact images. */
  fit(latents: Array32, pixels: Uint8Array): void {
    for (let cell = 0; cell < SIDE * SIDE; cell++) {
      const columns = columnsOf(latents, cell);
      const colour = meanColour(pixels, cell);
      for (let i = 0; i < COLUMNS; i++) {
        const value = columns[i] as number;
        for (let j = 0; j < COLUMNS; j++) add(this.#gram, COLUMNS * i + j, value * (columns[j] as number));
        for (let c = 0; c < 3; c++) add(this.#moment, 3 * i + c, value * (colour[c] as number));
      }
    }
    this.#factors = solve(this.#gram, this.#moment);
  }

  /** RGB bytes of an approximate image: smooth between the latent pixels. */
  image(latents: Array32): Uint8Array {
    const factors = this.#factors ?? new Float64Array(COLUMNS * 3);
    const small = new Float64Array(SIDE * SIDE * 3);
    for (let cell = 0; cell < SIDE * SIDE; cell++) {
      const columns = columnsOf(latents, cell);
      for (let c = 0; c < 3; c++)
        small[3 * cell + c] = columns.reduce((sum, value, i) => sum + value * (factors[3 * i + c] as number), 0);
    }
    return enlarge(small);
  }
}

function add(sums: Float64Array, index: number, value: number): void {
  sums[index] = (sums[index] as number) + value;
}

function columnsOf(latents: Array32, cell: number): number[] {
  return [...Array.from({ length: CHANNELS }, (_, c) => latents[c * SIDE * SIDE + cell] as number), 1];
}

/** The mean colour, 0 to 1, of the pixels that a latent pixel covers. */
function meanColour(pixels: Uint8Array, cell: number): number[] {
  const [top, left] = [Math.floor(cell / SIDE) * SCALE, (cell % SIDE) * SCALE];
  const sums = [0, 0, 0];
  for (let y = top; y < top + SCALE; y++)
    for (let x = left; x < left + SCALE; x++)
      for (let c = 0; c < 3; c++) sums[c] = (sums[c] as number) + (pixels[3 * (IMAGE_SIDE * y + x) + c] as number);
  return sums.map((sum) => sum / (255 * SCALE * SCALE));
}

/** Solves gram * factors = moment by elimination; a trace of ridge keeps it solvable for flat latents. */
function solve(gram: Float64Array, moment: Float64Array): Float64Array {
  const rows = Array.from({ length: COLUMNS }, (_, i) => [
    ...Array.from({ length: COLUMNS }, (_, j) => (gram[COLUMNS * i + j] as number) + (i === j ? 1e-6 : 0)),
    ...moment.subarray(3 * i, 3 * i + 3),
  ]);
  for (let i = 0; i < COLUMNS; i++) {
    const pivot = rows[i] as number[];
    for (let k = 0; k < COLUMNS; k++) {
      if (k === i) continue;
      const row = rows[k] as number[];
      const factor = (row[i] as number) / (pivot[i] as number);
      for (let j = i; j < row.length; j++) row[j] = (row[j] as number) - factor * (pivot[j] as number);
    }
  }
  return Float64Array.from(rows.flatMap((row, i) => row.slice(COLUMNS).map((value) => value / (row[i] as number))));
}

/** Bilinear, from latent pixels to pixels; colours 0 to 1 become bytes. */
function enlarge(small: Float64Array): Uint8Array {
  const pixels = new Uint8Array(IMAGE_SIDE * IMAGE_SIDE * 3);
  const places = Array.from({ length: IMAGE_SIDE }, (_, i) => {
    const centre = Math.min(Math.max((i + 0.5) / SCALE - 0.5, 0), SIDE - 1);
    const low = Math.floor(centre);
    return { low: 3 * low, high: 3 * Math.min(low + 1, SIDE - 1), share: centre - low };
  });
  let pixel = 0;
  for (const row of places) {
    const [low, high] = [small.subarray(SIDE * row.low), small.subarray(SIDE * row.high)];
    for (const column of places) {
      for (let c = 0; c < 3; c++) {
        const [left, right] = [column.low + c, column.high + c];
        const upper = mix(low[left] as number, low[right] as number, column.share);
        const lower = mix(high[left] as number, high[right] as number, column.share);
        pixels[pixel++] = Math.round(255 * Math.min(1, Math.max(0, mix(upper, lower, row.share))));
      }
    }
  }
  return pixels;
}

function mix(a: number, b: number, share: number): number {
  return a * (1 - share) + b * share;
}
