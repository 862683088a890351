// The drawers of one view: which there are, which are open, and their views, loaded when they are first needed.

import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Drawer, DrawerManifest, DrawerScript, DrawerSource, ExternalDrawer, LoadScript } from "./drawer";
import { watchExternalDrawers } from "./externalDrawers";
import type { LateParts } from "./lateParts";
import { bytes, text } from "./readers";
import type { Session } from "./session";

export class DrawerBundle<C> {
  readonly #script: Signal<DrawerScript<C> | null>;
  readonly #external = signal<readonly ExternalDrawer<C>[]>([]);
  readonly #load: LoadScript<C> | null;
  readonly #core: object;
  readonly #created = new Map<ExternalDrawer<C>, Drawer<C> | undefined>();
  #loading: Promise<void> | null = null;

  /** The manifests of all drawers, in the order in which they are offered. */
  readonly manifests: ReadonlySignal<readonly DrawerManifest[]>;
  /** The names of the open drawers. */
  readonly open = signal<readonly string[]>([]);
  /** The style sheet that came with the views. */
  readonly style = signal("");
  /** Why the views could not be loaded. */
  readonly problem = signal("");

  constructor(source: DrawerSource<C> | undefined, stopped: AbortSignal) {
    const { manifests = [], script = null, core = {} } = source ?? {};
    this.#load = typeof script === "function" ? script : null;
    this.#script = signal(typeof script === "object" ? script : null);
    this.#core = core;
    this.manifests = computed(() =>
      [...manifests, ...this.#external.value.filter(({ name }) => !manifests.some((own) => own.name === name))].sort(
        (a, b) => a.order - b.order,
      ),
    );
    watchExternalDrawers<C>((drawers) => {
      this.#external.value = drawers;
    }, stopped);
  }

  /** Whether views are here or can be loaded. */
  get isAvailable(): boolean {
    return this.#script.value !== null || this.#load !== null || this.#external.value.length > 0;
  }

  /** Whether the drawer's view would have to be loaded first, which needs a kernel. */
  needsLoading(name: string): boolean {
    return this.drawer(name) === undefined && this.#script.value === null && this.#load !== null;
  }

  /** The other parts of the widget in the drawers' script, once they are here. */
  get late(): Partial<LateParts<C>> {
    return this.#script.value?.late ?? {};
  }

  /** Whether those parts are here or can be loaded, which needs a kernel. */
  hasLate(session: Session): boolean {
    return this.#script.value !== null || (this.#load !== null && session.connected.value);
  }

  /** The drawer, once its view is here. */
  drawer(name: string): Drawer<C> | undefined {
    return this.#script.value?.views[name] ?? this.#externalDrawer(name);
  }

  /** All drawers whose views are here. */
  get drawers(): readonly Drawer<C>[] {
    return this.manifests.value.flatMap(({ name }) => this.drawer(name) ?? []);
  }

  /** Opens a drawer, or closes it. */
  toggle(name: string, session: Session): void {
    const open = this.open.peek();
    this.open.value = open.includes(name) ? open.filter((other) => other !== name) : [...open, name];
    void this.load(session);
  }

  /** Opens a drawer that may be open already. */
  show(name: string, session: Session): void {
    if (!this.open.peek().includes(name)) this.toggle(name, session);
  }

  /** Asks the kernel for the views, unless they are here; resolves when they are, or when they cannot be had. */
  load(session: Session): Promise<void> {
    if (this.#script.peek() || !this.#load || !session.connected.peek()) return Promise.resolve();
    this.#loading ??= this.#loadScript(session, this.#load).finally(() => {
      this.#loading = null;
    });
    return this.#loading;
  }

  async #loadScript(session: Session, load: LoadScript<C>): Promise<void> {
    this.problem.value = "";
    try {
      const { content, buffers } = await session.ask({ type: "more" });
      const script = await load(bytes(buffers[0], "script"));
      const style = text((content as { style: unknown }).style, "style");
      batch(() => {
        this.style.value = style;
        this.#script.value = script;
      });
    } catch (error) {
      this.problem.value = `The drawer could not be loaded. ${error instanceof Error ? error.message : error}`;
    }
  }

  #externalDrawer(name: string): Drawer<C> | undefined {
    const external = this.#external.value.find((drawer) => drawer.name === name);
    if (!external) return undefined;
    if (!this.#created.has(external)) {
      try {
        this.#created.set(external, external.create(this.#core));
      } catch (error) {
        console.warn(`diffvis_widget: the drawer ${name} could not be created:`, error);
        this.#created.set(external, undefined);
      }
    }
    return this.#created.get(external);
  }
}
