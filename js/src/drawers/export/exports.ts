// Which files the kernel can make of the current run.

import { listOf, object, type Session, signal, text } from "../../app/coreExports";

const REPLY = object({ kinds: listOf(text), name: text });

export interface Exportable {
  readonly run: string;
  readonly kinds: readonly string[];
  /** How the names of the files begin. */
  readonly name: string;
}

export class Exports {
  readonly available = signal<Exportable | null>(null);
  #requested = "";

  constructor(private readonly session: Session) {}

  /** Asks once for each run and connection, and again when the run ends; call it in a reaction. */
  request(): void {
    const { store, connected } = this.session;
    const run = store.shown.value;
    const key = run && connected.value ? `${run.info.run} ${run.end.value !== null}` : "";
    const available = this.available.peek();
    if (!connected.value && available) this.available.value = { ...available, kinds: [] };
    if (key === this.#requested) return;
    this.#requested = key;
    if (run && key) void this.#ask(run.info.run, key);
  }

  async #ask(run: string, key: string): Promise<void> {
    let available: Exportable | null = null;
    try {
      available = { ...REPLY((await this.session.ask({ type: "exports", run })).content, "exports"), run };
    } catch {
      // The files that the page makes itself are still there.
    }
    if (key === this.#requested) this.available.value = available;
  }
}
