// Heat maps of words from the attention probabilities of the layers, as diffvis_widget/traces/heat_maps.py makes them.

import type { Range } from "../core/protocol";
import { type Array32, TOKENS } from "./networks";
import type { PromptWord } from "./promptWords";

export interface Layer {
  readonly name: string;
  readonly kind: string;
  readonly heads: number;
  readonly grid: readonly [height: number, width: number];
  readonly default: boolean;
}

/** The maps of one layer: (heads, words, positions). */
export type LayerMaps = Float32Array;

/** The maps of words: probabilities of their tokens, summed. `row` of (rows, heads, positions, tokens) is the prompt's. */
export function wordMapsOf(probabilities: Array32, row: number, layer: Layer, words: readonly PromptWord[]): LayerMaps {
  const positions = layer.grid[0] * layer.grid[1];
  const maps = new Float32Array(layer.heads * words.length * positions);
  for (let head = 0; head < layer.heads; head++) {
    words.forEach((word, index) => {
      const target = (head * words.length + index) * positions;
      if (word.tokens.length === 0) maps.fill(Number.NaN, target, target + positions);
      for (let position = 0; position < positions; position++) {
        const source = ((row * layer.heads + head) * positions + position) * TOKENS;
        for (const token of word.tokens)
          maps[target + position] = (maps[target + position] as number) + (probabilities[source + token] as number);
      }
    });
  }
  return maps;
}

/** A layer's maps with those of further words (words, heads, positions) behind them. */
export function appendWords(maps: LayerMaps, others: Array32, layer: Layer): LayerMaps {
  const positions = layer.grid[0] * layer.grid[1];
  const [before, further] = [maps.length / layer.heads, others.length / layer.heads];
  const all = new Float32Array(maps.length + others.length);
  for (let head = 0; head < layer.heads; head++) {
    const start = head * (before + further);
    all.set(maps.subarray(head * before, (head + 1) * before), start);
    for (let word = 0; word < further / positions; word++) {
      const source = (word * layer.heads + head) * positions;
      all.set(others.subarray(source, source + positions), start + before + word * positions);
    }
  }
  return all;
}

/** One head, or the mean over the heads: (words, positions). */
export function headMaps(maps: LayerMaps, layer: Layer, head: number | null): Float32Array {
  const size = maps.length / layer.heads;
  if (head !== null) return maps.slice(head * size, (head + 1) * size);
  return Float32Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let each = 0; each < layer.heads; each++) sum += maps[each * size + i] as number;
    return sum / layer.heads;
  });
}

/** The mean over the layers that count by default, which all have the same grid: (words, height, width). */
export function meanMaps(maps: readonly LayerMaps[], layers: readonly Layer[]): Float32Array {
  const means = maps.flatMap((layerMaps, i) => {
    const layer = layers[i] as Layer;
    return layer.default ? [headMaps(layerMaps, layer, null)] : [];
  });
  return (means[0] as Float32Array).map(
    (_, i) => means.reduce((sum, mean) => sum + (mean[i] as number), 0) / means.length,
  );
}

export interface Quantised {
  readonly data: Uint8Array;
  /** Null for a map that is not finite. */
  readonly scales: readonly (Range | null)[];
}

/** One byte per value: value = lo + byte / 255 * (hi - lo). `size`: values of one map. */
export function quantise(maps: Float32Array, size: number): Quantised {
  const data = new Uint8Array(maps.length);
  const scales: (Range | null)[] = [];
  for (let start = 0; start < maps.length; start += size) {
    const map = maps.subarray(start, start + size);
    const lo = Math.min(...map);
    const hi = Math.max(...map);
    scales.push(Number.isFinite(lo) && Number.isFinite(hi) ? [lo, hi] : null);
    if (hi > lo && Number.isFinite(hi - lo))
      data.set(
        map.map((value) => Math.round(((value - lo) / (hi - lo)) * 255)),
        start,
      );
  }
  return { data, scales };
}

/** How concentrated a map is: 0 flat, 1 a single cell; null for a map without mass. */
export function focus(map: Float32Array): number | null {
  const total = map.reduce((sum, value) => sum + value, 0);
  if (!Number.isFinite(total) || total <= 0 || map.length < 2) return null;
  let entropy = 0;
  for (const value of map) if (value > 0) entropy += (value / total) * Math.log(value / total);
  return round(1 + entropy / Math.log(map.length), 4);
}

export function round(value: number, digits: number): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}
