// What opens on request, and what only a kernel makes useful. It is no part of the bundle that every saved notebook
// carries: the kernel sends it when somebody first turns to the widget, and a page without a kernel may have it from
// the start.

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { bytes, text } from "./readers";
import type { Session } from "./session";

/** `C` is the context that every view takes, which itself holds the open drawers. */
export type MoreView<C> = ComponentType<{ readonly context: C }>;
/** A view for each name that the core has a button for. */
export type Views<C> = Readonly<Record<string, MoreView<C>>>;
export interface Bundle<C> {
  readonly views: Views<C>;
  /** Puts to the widget's element what it can do beside, until the signal aborts. */
  install(context: C, root: HTMLElement, signal: AbortSignal): void;
}

/** Makes the bundle of the script that the kernel sent. */
export type Load<C> = (script: Uint8Array) => Promise<Bundle<C>>;

export class More<C> {
  readonly #bundle: Signal<Bundle<C> | null>;
  readonly bundle: ReadonlySignal<Bundle<C> | null>;
  readonly style = signal("");
  /** The names of the views that are open. */
  readonly open = signal<readonly string[]>([]);
  readonly problem = signal("");
  readonly #load: Load<C> | null;
  #asked = false;

  constructor(given: Bundle<C> | Load<C> | undefined) {
    this.#load = typeof given === "function" ? given : null;
    this.bundle = this.#bundle = signal(typeof given === "object" ? given : null);
  }

  /** Whether there is, or can be had, anything at all. */
  get possible(): boolean {
    return this.bundle.value !== null || this.#load !== null;
  }

  /** Opens a view, or closes it. */
  toggle(name: string): void {
    const open = this.open.value;
    this.open.value = open.includes(name) ? open.filter((other) => other !== name) : [...open, name];
  }

  /** Opens a view that may be open already. */
  show(name: string, session: Session): void {
    if (!this.open.peek().includes(name)) this.toggle(name);
    void this.want(session);
  }

  /** Asks the kernel unless it was asked already. */
  async want(session: Session): Promise<void> {
    if (this.bundle.value || !this.#load || this.#asked || !session.connected.value) return;
    this.#asked = true;
    this.problem.value = "";
    try {
      const { content, buffers } = await session.ask({ type: "more" });
      const bundle = await this.#load(bytes(buffers[0], "script"));
      this.style.value = text((content as { style: unknown }).style, "style");
      this.#bundle.value = bundle;
    } catch (error) {
      this.problem.value = `This could not be opened. ${error instanceof Error ? error.message : error}`;
    }
    this.#asked = false;
  }
}
