// The Python that makes the figure on the stage. The kernel writes it; an offline page holds the Python of its run.

import { computed, maybe, object, type Session, signal, text } from "../../app/coreExports";
import { exportedView } from "./exportedView";

const REPLY = object({ python: maybe(text), file: maybe(text) });
/** How long a view must rest before the kernel is asked for its Python. */
const REST_MS = 120;

export interface SourceCode {
  readonly python: string;
  /** The file that the Python opens, where it cannot make the run again. */
  readonly file: string | null;
}

export class SourceCodes {
  /** The Python last received, and the view that it is of. */
  readonly #received = signal<{ readonly key: string; readonly code: SourceCode | null }>({ key: "", code: null });
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** The run and the view that the Python should be of; empty where nothing can answer. */
  readonly #key = computed(() => {
    const { store, connected, isOffline } = this.session;
    const run = store.shown.value?.info.run;
    const view = exportedView(this.session);
    if (!run || !view || !connected.value) return "";
    // An offline page can say how to make the run, not how to make a figure of it.
    return JSON.stringify({ run, view: isOffline ? null : view });
  });

  /** The Python to show: while that of a new view is on its way, still that of the last view of the same run. */
  readonly current = computed(() => {
    const { key, code } = this.#received.value;
    return key !== "" && this.#key.value !== "" && runOf(key) === runOf(this.#key.value) ? code : null;
  });

  readonly isStale = computed(() => this.#key.value !== this.#received.value.key);

  constructor(private readonly session: Session) {}

  /** Asks for the Python of the current view once the view rests; call it in a reaction. */
  request(): void {
    const key = this.#key.value;
    clearTimeout(this.#timer);
    if (key === "" || key === this.#received.value.key) return;
    this.#timer = setTimeout(() => void this.#ask(key), REST_MS);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  async #ask(key: string): Promise<void> {
    let code: SourceCode | null = null;
    try {
      const reply = await this.session.ask({ type: "source_code", ...JSON.parse(key) });
      const { python, file } = REPLY(reply.content, "source_code");
      code = python === null ? null : { python, file };
    } catch {
      // The run is gone, or its file would be needed: there is no Python to offer.
    }
    if (key === this.#key.peek()) this.#received.value = { key, code };
  }
}

function runOf(key: string): string {
  return JSON.parse(key).run;
}
