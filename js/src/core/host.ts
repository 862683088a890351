// What the page needs from its surroundings: a notebook, an offline page, a test.

import type { KernelRequest, PageMessage } from "./protocol";
import type { Vocabulary } from "./vocabulary";

export type Status = "loading" | "idle" | "queued" | "running" | "stopping" | "stopped" | "done" | "failed";

export type Schedule = "uniform" | "early" | "late";
export type Weights = Readonly<Record<string, number | null>>;

/** The traits of DiffVis that the page reads; the kernel owns them. */
export interface Traits {
  prompt: string;
  negative_prompt: string | null;
  seed: number;
  /** Null while the pipeline loads whose default it is. */
  steps: number | null;
  /** Null where the pipeline takes none, too. */
  guidance_scale: number | null;
  schedule: Schedule;
  schedule_strength: number;
  /** Weights of words by their text in lower case; null leaves a word out. */
  weights: Weights;
  concepts: readonly string[];
  step: number;
  selected: readonly number[];
  /** What covers the image: "attention", the heat maps of the chosen words, or the name of an explain method. */
  overlay: string;
  status: Status;
  progress: number;
  error: string;
  _notice: string;
  _can_run: boolean;
  /** The words that the model was trained on, by group; empty where they are not known. */
  _vocabulary: Vocabulary;
  /** Whether runs can have heat maps of words outside the prompt. */
  _takes_concepts: boolean;
  /** The id of the run to compare with, chosen in Python. */
  _comparison_run: string;
  /** The ids of the runs with different seeds that were requested together. */
  _sheet: readonly string[];
  /** Not 0 while Python wants the tour. */
  _tour: number;
  _snapshot: ArrayBufferView | null;
}

/** The value of the trait `overlay` for the heat maps of the chosen words. */
export const ATTENTION = "attention";

export type TraitName = keyof Traits;

export interface Host {
  get<K extends TraitName>(name: K): Traits[K] | undefined;
  /** Sets traits, here and in the kernel. */
  set(values: Partial<Traits>): void;
  send(message: PageMessage): void;
  onChange(name: TraitName, callback: () => void): void;
  onMessage(callback: (content: unknown, buffers: readonly ArrayBufferView[]) => void): void;
  /** Calls back at once, and whenever the kernel disconnects or reconnects. */
  onConnection(callback: (connected: boolean) => void): void;
  /** Whether there is no kernel to write notes to or to compute anything. */
  readonly isOffline: boolean;
  /** Whether requests of a type can be answered; without this method all can. */
  canAnswer?(type: KernelRequest["type"]): boolean;
  /** Whether the page itself holds results of a run, so that none are computed; without this method only without a kernel. */
  holds?(run: string): boolean;
  /** The kinds of jobs that can be done; without this list all can. */
  readonly jobs?: readonly unknown[];
  /** Aborts when the view is removed. */
  readonly signal: AbortSignal;
}
