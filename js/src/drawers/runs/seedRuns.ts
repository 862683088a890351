// The runs of a contact sheet: those that the page has seen, and for a page that was opened later, the kernel's.

import { bytes, decode, type Run, RunStore, type Session, signal, unpack } from "../../app/coreExports";
import type { Entry } from "../runHistory";

export class SeedRuns {
  /** By id; a run that has not begun is not there. */
  readonly runs = signal<ReadonlyMap<string, Run>>(new Map());
  readonly #requested = new Set<string>();

  constructor(private readonly session: Session) {}

  /** Takes the shown run, and requests what the kernel has kept; call it in a reaction. */
  update(entries: readonly Entry[]): void {
    const { store, traits, connected } = this.session;
    const ids = traits._sheet.value;
    const shown = store.shown.value;
    if (shown && ids.includes(shown.info.run)) {
      this.#requested.add(shown.info.run);
      this.#add(shown);
    }
    for (const { run, state } of entries) {
      if (!connected.value || !ids.includes(run) || this.#requested.has(run) || state !== "done") continue;
      this.#requested.add(run);
      void this.#ask(run);
    }
  }

  async #ask(id: string): Promise<void> {
    try {
      const { buffers } = await this.session.ask({ type: "packed", run: id });
      const store = new RunStore();
      for (const message of unpack(bytes(buffers[0], "run"))) store.feed(decode(message));
      if (store.current) this.#add(store.current);
    } catch {
      this.#requested.delete(id); // it is asked for again with the next list
    }
  }

  #add(run: Run): void {
    if (this.runs.peek().get(run.info.run) === run) return;
    this.runs.value = new Map(this.runs.peek()).set(run.info.run, run);
  }
}
