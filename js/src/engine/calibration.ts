// Which concepts are present, by the calibration of the scenes CLIP, as diffvis_widget/concepts/calibration.py says.

import type { EngineSettings } from "./settings";

/** 1 present, 0 absent, null not sure. */
export type Presence = 0 | 1 | null;

/** The presence of concepts at a step, from their cosines, the upper edge of the null band, and noise over signal. */
export function presence(
  { words, levels }: EngineSettings["calibration"],
  concepts: readonly string[],
  cosine: readonly number[],
  nullTop: number,
  sigma: number,
): Presence[] {
  const distances = levels.map((level) => Math.abs(Math.log(level.sigma / Math.min(Math.max(sigma, 1e-6), 1e6))));
  const level = levels[distances.indexOf(Math.min(...distances))];
  return concepts.map((concept, k) => {
    if (!level || !words.includes(concept.toLowerCase())) return null;
    const height = level.slope * ((cosine[k] as number) - nullTop) + level.offset;
    const probability = 1 / (1 + Math.exp(-Math.min(Math.max(height, -60), 60)));
    if (level.present !== null && probability >= level.present) return 1;
    return level.absent !== null && probability <= level.absent ? 0 : null;
  });
}
