// One sentence about what an element shows, which `views/Tip.tsx` puts beside it on hover, focus and touch.

/** The attributes of an element that has such a sentence. */
export const tip = (sentence: string) => ({ "data-tip": sentence, "aria-description": sentence });

/** The terms of the field, a sentence each. */
export const TERMS = {
  seed: "The seed numbers the random noise that a run starts from: the same seed and settings give the same image.",
  steps: "Each step removes a part of the noise: with more steps a run takes longer and each step removes less.",
  guidance: "Guidance is how strongly the prompt pulls the image: 1 adds no pull, 7.5 is usual.",
  timestep: "t is the timestep: it tells the model how much noise to expect, about 1000 for pure noise and 0 for none.",
  sigma: "σ (sigma) is the noise level: how strong the noise is compared with the image below it.",
  special:
    "Special tokens are added around the prompt to mark its start and end and to fill it up; they often get most of the attention.",
} as const;
