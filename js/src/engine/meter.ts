// The concept meter: cosines of images and words by the scenes CLIP, as diffvis_widget/concepts computes them.

import type { Range } from "../core/protocol";
import type { Presence } from "./calibration";
import { quantile } from "./intervals";
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
      nullBand: [quantile(others, 0.05), quantile(others, 0.95)],
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

/** Of each concept, the first step from which it stays above the midpoint of its first and last cosine. Null for one that
 *  is not clearly present at the end: by `present`, of each step, or without it, above the null band and above the middle
 *  between its top and the highest concept. */
export function emergence(
  cosine: readonly (readonly number[])[],
  nullBands: readonly Range[],
  present: readonly (readonly Presence[])[] | null = null,
): (number | null)[] {
  const last = cosine.at(-1) ?? [];
  const top = nullBands.at(-1)?.[1] ?? Number.POSITIVE_INFINITY;
  const middle = (top + Math.max(top, ...last)) / 2;
  return last.map((end, k) => {
    const curve = cosine.map((row) => row[k] as number);
    const start = curve[0] as number;
    const isPresent = present ? present.at(-1)?.[k] === 1 : end > Math.max(top, middle);
    if (!isPresent || end <= start) return null;
    return curve.findLastIndex((value) => value <= (start + end) / 2) + 1;
  });
}
