// The views that open on request. They are no part of the bundle that every saved notebook carries: the kernel sends
// them when the first of them is opened, and a page that has no kernel may have them from the start.

import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import type { Context } from "../views/context";
import { bytes, text } from "./protocol";
import type { Session } from "./session";

export type MoreView = ComponentType<{ readonly context: Context }>;
/** A view for each name that the core has a button for. */
export type Views = Readonly<Record<string, MoreView>>;
/** Makes the views of the script that the kernel sent. */
export type Load = (script: Uint8Array) => Promise<Views>;

export class More {
  readonly #views: Signal<Views | null>;
  readonly views: ReadonlySignal<Views | null>;
  readonly style = signal("");
  /** The names of the views that are open. */
  readonly open = signal<readonly string[]>([]);
  readonly problem = signal("");
  readonly #load: Load | null;
  #asked = false;

  constructor(given: Views | Load | undefined) {
    this.#load = typeof given === "function" ? given : null;
    this.views = this.#views = signal(typeof given === "function" ? null : (given ?? {}));
  }

  /** Opens a view, or closes it. */
  toggle(name: string, session: Session): void {
    const open = this.open.value;
    this.open.value = open.includes(name) ? open.filter((other) => other !== name) : [...open, name];
    void this.#fetch(session);
  }

  async #fetch(session: Session): Promise<void> {
    if (this.views.value || !this.#load || this.#asked) return;
    this.#asked = true;
    this.problem.value = "";
    try {
      const { content, buffers } = await session.ask({ type: "more" });
      const views = await this.#load(bytes(buffers[0], "script"));
      this.style.value = text((content as { style: unknown }).style, "style");
      this.#views.value = views;
    } catch (error) {
      this.problem.value = `This could not be opened. ${error instanceof Error ? error.message : error}`;
    }
    this.#asked = false;
  }
}
