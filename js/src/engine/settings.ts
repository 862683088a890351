// What the page's engine is given beside the networks, as diffvis_widget/export/live_page.py writes it.

import { noteWith } from "../core/protocol";
import { flag, listOf, maybe, number, object, pair, text, whole } from "../core/readers";

export const readSettings = object({
  /** The merges of the tokenizer, in the order of their frequency. */
  merges: listOf(text),
  /** Noise over signal at each of the training steps. */
  sigmas: listOf(number),
  layers: listOf(object({ name: text, kind: text, heads: whole, grid: pair(whole), default: flag })),
  /** The words that the model was trained on. */
  vocabulary: listOf(text),
  /** The words of the meter's null band. */
  unrelated: listOf(text),
  logit_scale: number,
  meter: text,
  /** What the meter's scores mean at each noise level, for the words that were measured. */
  calibration: object({
    words: listOf(text),
    levels: listOf(
      object({ sigma: number, slope: number, offset: number, present: maybe(number), absent: maybe(number) }),
    ),
  }),
  scheduler: text,
  pipeline: text,
  default_steps: whole,
  default_guidance_scale: number,
  /** Rows of the registry of explain methods. */
  methods: listOf((row: unknown) => row as object),
  /** Notes on every new run. */
  notes: listOf(noteWith(listOf(text))),
});

export type EngineSettings = ReturnType<typeof readSettings>;
