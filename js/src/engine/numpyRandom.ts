// The numbers of numpy.random.default_rng(0): PCG64 (XSL RR 128/64), uniform, and exponential by the ziggurat of numpy.

const MASK64 = (1n << 64n) - 1n;
const MASK128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
/** The state of numpy's generator for seed 0, and its increment. */
const STATE = 35399562948360463058890781895381311971n;
const INCREMENT = 87136372517582989555478159403783844777n;

const LAYERS = 256;
/** Where the tail begins, and the area of each layer. */
const TAIL = 7.69711747013105;
const AREA = 0.003949659822581557;

interface Ziggurat {
  /** Draws below need no further test. */
  readonly sure: Float64Array;
  readonly scale: Float64Array;
  readonly density: Float64Array;
}

function makeZiggurat(): Ziggurat {
  const [sure, scale, density] = [
    new Float64Array(LAYERS),
    new Float64Array(LAYERS),
    new Float64Array(LAYERS),
  ] as const;
  let edge = TAIL;
  const bottom = AREA / Math.exp(-edge);
  sure[0] = (edge / bottom) * 2 ** 53;
  scale[0] = bottom / 2 ** 53;
  scale[LAYERS - 1] = edge / 2 ** 53;
  density[0] = 1;
  density[LAYERS - 1] = Math.exp(-edge);
  for (let layer = LAYERS - 2; layer >= 1; layer--) {
    const next = -Math.log(AREA / edge + Math.exp(-edge));
    sure[layer + 1] = (next / edge) * 2 ** 53;
    edge = next;
    density[layer] = Math.exp(-edge);
    scale[layer] = edge / 2 ** 53;
  }
  return { sure, scale, density };
}

/** default_rng(0). */
export class Pcg64 {
  #state = STATE;

  /** The next 64 random bits. */
  next(): bigint {
    const state = (this.#state * MULTIPLIER + INCREMENT) & MASK128;
    this.#state = state;
    const mixed = (state >> 64n) ^ (state & MASK64);
    const turn = state >> 122n;
    return ((mixed >> turn) | (mixed << (64n - turn))) & MASK64;
  }

  /** A number in 0 to 1, without 1. */
  uniform(): number {
    return Number(this.next() >> 11n) / 2 ** 53;
  }
}

/** `count` exponential numbers with a mean of 1. */
export function standardExponential(count: number): Float64Array {
  const { sure, scale, density } = makeZiggurat();
  const random = new Pcg64();
  const draw = (): number => {
    for (;;) {
      const bits = random.next() >> 3n;
      const layer = Number(bits & 0xffn);
      const place = Number(bits >> 8n);
      const value = place * (scale[layer] as number);
      if (place < (sure[layer] as number)) return value;
      if (layer === 0) return TAIL - Math.log1p(-random.uniform());
      const [upper, lower] = [density[layer - 1] as number, density[layer] as number];
      if ((upper - lower) * random.uniform() + lower < Math.exp(-value)) return value;
    }
  };
  return Float64Array.from({ length: count }, draw);
}
