// Drawers: views that open on request. Their manifests are part of every bundle. Their views come in a script of their
// own, which the kernel sends when a user first turns to the widget; an offline page has it from the start. Scripts of
// the page may add further drawers, see externalDrawers.ts.

import type { ComponentType } from "preact";
import type { LateParts } from "./lateParts";
import type { Session } from "./session";
import type { Run } from "./store";

export interface DrawerManifest {
  /** Unique among the drawers; for the package's own ones the name of the folder. */
  readonly name: string;
  /** The text on its button. */
  readonly label: string;
  /** What the drawer is, where the label is too short to say it. */
  readonly title?: string;
  /** Drawers are offered in ascending order. */
  readonly order: number;
  /** True for a drawer that asks the kernel: without a kernel it stays open but is not offered. */
  readonly needsKernel: boolean;
  /** Whether the drawer has anything to show of a run; without this function it always has. */
  readonly isOffered?: (run: Run, session: Session) => boolean;
  /** Whether the drawer opens by itself; called again whenever a signal that it reads changes. */
  readonly opensItself?: (session: Session) => boolean;
}

/** `C` is the context that every view takes, which itself holds the drawers. */
export interface Drawer<C> {
  readonly View: ComponentType<{ readonly context: C }>;
  /** Called once, before the drawer opens for the first time; cleans up when `signal` aborts. `root` is the widget. */
  readonly attach?: (context: C, signal: AbortSignal, root: HTMLElement) => void;
}

/** The drawers' views by name. */
export type DrawerViews<C> = Readonly<Record<string, Drawer<C>>>;

/** What is in the script that the kernel sends. */
export interface DrawerScript<C> {
  readonly views: DrawerViews<C>;
  readonly late: LateParts<C>;
}
export type LoadScript<C> = (script: Uint8Array) => Promise<DrawerScript<C>>;

export interface DrawerSource<C> {
  readonly manifests: readonly DrawerManifest[];
  /** What the script holds, or how to load it. */
  readonly script: DrawerScript<C> | LoadScript<C>;
  /** What external drawers are built with: everything that app/coreExports.ts exports. */
  readonly core: object;
}

/** A drawer from outside this package: its manifest, and what makes its view. */
export interface ExternalDrawer<C> extends DrawerManifest {
  readonly create: (core: object) => Drawer<C>;
}
