// torch's random numbers on the CPU: the Mersenne twister (mt19937), and normal numbers by the Box-Muller transform.

const SIZE = 624;
const SHIFT = 397;
/** torch.randn fills 16 values at a time: the first eight are radii, the last eight angles. */
const CHUNK = 16;

export class MersenneTwister {
  readonly #state = new Uint32Array(SIZE);
  #index = SIZE;

  /** `seed`: as in torch.Generator.manual_seed; only its lowest 32 bits count, as in torch. */
  constructor(seed: number) {
    const state = this.#state;
    state[0] = seed % 2 ** 32;
    for (let i = 1; i < SIZE; i++) {
      const last = state[i - 1] as number;
      state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
    }
  }

  /** The next 32 random bits. */
  next(): number {
    if (this.#index === SIZE) this.#twist();
    let y = this.#state[this.#index++] as number;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in 0 to 1, without 1, with 24 random bits. */
  uniform(): number {
    return (this.next() & 0xffffff) / 2 ** 24;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < SIZE; i++) {
      const y = ((state[i] as number) & 0x80000000) | ((state[(i + 1) % SIZE] as number) & 0x7fffffff);
      state[i] = (state[(i + SHIFT) % SIZE] as number) ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#index = 0;
  }
}

/** torch.randn of `count` values, 16 or more, from a generator with this seed. */
export function randomNormal(seed: number, count: number): Float32Array {
  const generator = new MersenneTwister(seed);
  const values = Float32Array.from({ length: count }, () => generator.uniform());
  for (let start = 0; start + CHUNK <= count; start += CHUNK) transform(values, start);
  if (count % CHUNK !== 0) {
    for (let i = count - CHUNK; i < count; i++) values[i] = generator.uniform();
    transform(values, count - CHUNK);
  }
  return values;
}

/** The Box-Muller transform of one chunk. */
function transform(values: Float32Array, start: number): void {
  for (let i = start; i < start + CHUNK / 2; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - (values[i] as number)));
    const angle = 2 * Math.PI * (values[i + CHUNK / 2] as number);
    values[i] = radius * Math.cos(angle);
    values[i + CHUNK / 2] = radius * Math.sin(angle);
  }
}
