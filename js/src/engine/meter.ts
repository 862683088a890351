// The concept meter: cosines of images and words by the scenes CLIP, as diffvis_widget/concepts computes them.

import type { Range } from "../core/protocol";
import type { Array32, Networks } from "./networks";
import type { EngineSettings } from "./settings";
import type { Tokenizer } from "./tokenizer";

export interface ScoreRow {
  readonly cosine: readonly number[];
  readonly share: readonly number[] | null;
  readonly nullBand: Range;
}

export class Meter {
  readonly #texts = new Map<string, Array32>();

  constructor(
    private readonly networks: Networks,
    private readonly settings: EngineSettings,
    private readonly tokenizer: Tokenizer,
  ) {}

  /** The scores of an image, from its unit vector. */
  async score(features: Array32, concepts: readonly string[]): Promise<ScoreRow> {
    const { unrelated, logit_scale } = this.settings;
    await this.#encode([...unrelated, ...concepts]);
    const cosineOf = (text: string) => dot(features, this.#texts.get(text) as Array32);
    const cosine = concepts.map(cosineOf);
    const others = unrelated.map(cosineOf).sort((a, b) => a - b);
    const weights = cosine.map((value) => Math.exp((value - Math.max(...cosine)) * logit_scale));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return {
      cosine,
      share: concepts.length > 1 ? weights.map((weight) => weight / total) : null,
      nullBand: [percentile(others, 0.05), percentile(others, 0.95)],
    };
  }

  async #encode(texts: readonly string[]): Promise<void> {
    const missing = [...new Set(texts)].filter((text) => !this.#texts.has(text));
    if (missing.length === 0) return;
    const rows = missing.map((text) => this.tokenizer.encode(text).map((token) => token.id));
    const features = await this.networks.textFeatures(rows);
    const width = features.length / missing.length;
    missing.forEach((text, i) => void this.#texts.set(text, features.slice(i * width, (i + 1) * width)));
  }
}

function dot(a: Array32, b: Array32): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

/** With linear interpolation, of sorted values. */
function percentile(sorted: readonly number[], share: number): number {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const below = sorted[low] as number;
  const above = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return below + (place - low) * (above - below);
}

/** The first step from which a concept stays above the midpoint of its first and last cosine; null if it never rises. */
export function emergence(curve: readonly number[], nullBands: readonly Range[]): number | null {
  const [first, last] = [curve[0], curve.at(-1)];
  if (first === undefined || last === undefined || last <= first) return null;
  if (!curve.some((value, step) => value > (nullBands[step]?.[1] ?? Number.POSITIVE_INFINITY))) return null;
  const middle = (first + last) / 2;
  return curve.findLastIndex((value) => value <= middle) + 1;
}
