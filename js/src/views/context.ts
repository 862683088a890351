// What every view is given.

import { type Signal, signal } from "@preact/signals";
import type { Host } from "../core/host";
import { ImageCache } from "../core/images";
import { Player } from "../core/player";
import { Session } from "../core/session";

export interface Context {
  readonly session: Session;
  readonly player: Player;
  readonly images: ImageCache;
  /** What is wrong with what was typed into a field; empty when nothing is. */
  readonly problem: Signal<string>;
  /** What the keys do where the reader is typing. */
  readonly hint: Signal<string>;
}

export function createContext(host: Host): Context {
  const session = new Session(host);
  const images = new ImageCache();
  host.signal.addEventListener("abort", () => images.close());
  return { session, images, player: new Player(session, host.signal), problem: signal(""), hint: signal("") };
}
