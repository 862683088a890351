// What every view is given.

import { type Signal, signal } from "@preact/signals";
import { type Bundle, type Load, More } from "./drawerBundle";
import type { Host } from "./host";
import { ImageCache } from "./images";
import { Player } from "./player";
import { Session } from "./session";

export interface Context {
  readonly session: Session;
  readonly player: Player;
  readonly images: ImageCache;
  readonly more: More<Context>;
  /** What is wrong with what was typed into a field; empty when nothing is. */
  readonly problem: Signal<string>;
  /** What the keys do where the reader is typing. */
  readonly hint: Signal<string>;
}

export function createContext(host: Host, more: Bundle<Context> | Load<Context> | undefined): Context {
  const session = new Session(host);
  const images = new ImageCache();
  host.signal.addEventListener("abort", () => images.close());
  const player = new Player(session, host.signal);
  return { session, images, more: new More(more), player, problem: signal(""), hint: signal("") };
}
