// The notes that expect something of a run: which are met, by the run at hand or by an earlier one on this page.

import { computed, effect, type Note, type ReadonlySignal, type Session, signal } from "../../app/coreExports";
import type { RunHistory } from "../runHistory";
import { evaluate, type Outcome } from "./expectations";
import { factsOf } from "./runFacts";

export interface TaskState extends Outcome {
  /** Whether an earlier run met it, and the run at hand does not. */
  readonly wasMet: boolean;
}

/** Kept while the widget is there: what a student has done stays done when the drawer is closed. */
const tasksBySession = new WeakMap<Session, Tasks>();

export function tasksOf(session: Session, runs: RunHistory): Tasks {
  const tasks = tasksBySession.get(session) ?? new Tasks(session);
  tasksBySession.set(session, tasks);
  tasks.runs.value = runs;
  return tasks;
}

export class Tasks {
  readonly runs = signal<RunHistory | null>(null);
  /** The state of each note of the shown run, null for a note that expects nothing. */
  readonly states: ReadonlySignal<readonly (TaskState | null)[]>;
  readonly #met = signal<ReadonlySet<string>>(new Set());

  constructor(session: Session) {
    const outcomes = computed(() => {
      const run = session.store.shown.value;
      if (!run) return [];
      const facts = factsOf(run, this.runs.value?.entries.value ?? []);
      return run.notes.value.map((note) => ({ note, outcome: note.expects ? evaluate(note.expects, facts) : null }));
    });
    effect(() => {
      const met = outcomes.value.flatMap(({ note, outcome }) => (outcome?.met ? [keyOf(note)] : []));
      const before = this.#met.peek();
      if (met.some((key) => !before.has(key))) this.#met.value = new Set([...before, ...met]);
    });
    this.states = computed(() =>
      outcomes.value.map(({ note, outcome }) =>
        outcome ? { ...outcome, wasMet: !outcome.met && this.#met.value.has(keyOf(note)) } : null,
      ),
    );
  }
}

function keyOf({ text, expects }: Note): string {
  return JSON.stringify([text, expects?.text]);
}
