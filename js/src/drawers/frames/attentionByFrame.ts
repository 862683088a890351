// How much each latent frame of a video attends to a word: the mean of the word's map over the frame.

import type { StepMessage } from "../../app/coreExports";

const CACHE = new WeakMap<StepMessage, Map<number, readonly number[] | null>>();

/** The mean attention of each frame to a word at a step; null for a word without a map. */
export function attentionByFrame(step: StepMessage, word: number): readonly number[] | null {
  let ofStep = CACHE.get(step);
  if (!ofStep) {
    ofStep = new Map();
    CACHE.set(step, ofStep);
  }
  let means = ofStep.get(word);
  if (means === undefined) {
    means = meansOf(step, word);
    ofStep.set(word, means);
  }
  return means;
}

function meansOf(step: StepMessage, word: number): readonly number[] | null {
  const frames = step.frames ?? [step];
  const scale = step.maps.scales[word];
  const size = step.maps.width * step.maps.height;
  if (!scale || size === 0) return null;
  return frames.map(({ maps }) => {
    let sum = 0;
    for (let i = word * size; i < (word + 1) * size; i++) sum += maps.data[i] as number;
    return scale[0] + (sum / size / 255) * (scale[1] - scale[0]);
  });
}
