// What the page needs from wherever it runs: a notebook, a test, a plain page. Nothing else in core or views
// knows a host.

import type { PageMessage, Question } from "./protocol";

export type Status = "loading" | "idle" | "queued" | "running" | "stopping" | "stopped" | "done" | "failed";

export type Schedule = "uniform" | "early" | "late";
export type Weights = Readonly<Record<string, number | null>>;

/** The traits of DiffVis that the page reads; the kernel owns them. */
export interface Traits {
  prompt: string;
  negative_prompt: string | null;
  seed: number;
  steps: number;
  guidance_scale: number;
  schedule: Schedule;
  schedule_strength: number;
  /** Factors of words, by their text in lower case; null leaves a word out. */
  weights: Weights;
  concepts: readonly string[];
  step: number;
  selected: readonly number[];
  /** What lies on the stage: "attention", the heat maps of the chosen words, or the name of an explaining method. */
  overlay: string;
  status: Status;
  progress: number;
  error: string;
  _notice: string;
  _can_run: boolean;
  /** The run that was given to be compared with. */
  _beside: string;
  _snapshot: ArrayBufferView | null;
}

/** The trait `overlay` while the heat maps of the chosen words lie on the stage. */
export const ATTENTION = "attention";

export type TraitName = keyof Traits;

export interface Host {
  get<K extends TraitName>(name: K): Traits[K] | undefined;
  /** Writes traits and tells the kernel. */
  set(values: Partial<Traits>): void;
  send(message: PageMessage): void;
  onChange(name: TraitName, callback: () => void): void;
  onMessage(callback: (content: unknown, buffers: readonly ArrayBufferView[]) => void): void;
  /** Calls back at once, and whenever the kernel goes or comes back. */
  onConnection(callback: (connected: boolean) => void): void;
  /** Whether what it shows can be written on: not where nobody keeps it. */
  readonly keeps: boolean;
  /** Whether requests of a type can be answered; without this function all can. */
  canAnswer?(type: Question["type"]): boolean;
  /** Aborts when the view is gone. */
  readonly signal: AbortSignal;
}
