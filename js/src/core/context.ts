// The objects that every view takes.

import { type Signal, signal } from "@preact/signals";
import type { ComponentType } from "preact";
import type { DrawerSource } from "./drawer";
import { DrawerBundle } from "./drawerBundle";
import { Hints } from "./hints";
import type { Host } from "./host";
import { ImageCache } from "./images";
import { Player } from "./player";
import { Session } from "./session";

export interface StageContent {
  readonly View: ComponentType;
  /** Whether it is two images side by side, which need more width. */
  readonly isPair: boolean;
}

export interface Context {
  readonly session: Session;
  readonly player: Player;
  readonly images: ImageCache;
  readonly drawers: DrawerBundle<Context>;
  /** What is wrong with the text in a field; empty when nothing is. */
  readonly problem: Signal<string>;
  /** A hint about what the user is doing: the keys of a field, or what is under the pointer. */
  readonly hint: Signal<string>;
  /** Hints about gestures that have not been used yet. */
  readonly hints: Hints;
  /** What the stage shows in place of the image, as two runs that are compared; null for the image. */
  readonly onStage: Signal<StageContent | null>;
}

export function createContext(host: Host, source: DrawerSource<Context> | undefined): Context {
  const session = new Session(host);
  const images = new ImageCache();
  host.signal.addEventListener("abort", () => images.close());
  const player = new Player(session, host.signal);
  const drawers = new DrawerBundle<Context>(source, host.signal);
  return {
    ...{ session, images, drawers, player, hints: new Hints() },
    ...{ problem: signal(""), hint: signal(""), onStage: signal(null) },
  };
}
