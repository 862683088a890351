// What opens on request, in place: a row of names, and under it the views that are open.

import type { Session } from "../core/session";
import type { Run } from "../core/store";
import { Button } from "./Button";
import { useReaction } from "./canvas";
import type { Context } from "./context";

interface Drawer {
  readonly name: string;
  readonly label: string;
  /** Whether it shows what only the kernel has. */
  readonly asks?: boolean;
  /** Whether there is anything behind it. */
  readonly fits: (run: Run, session: Session) => boolean;
}

const always = () => true;
const DRAWERS: readonly Drawer[] = [
  { name: "layers", label: "Layers", asks: true, fits: (run) => run.info.layers > 0 && run.mapped },
  { name: "compare", label: "Compare", asks: true, fits: always },
  { name: "runs", label: "Runs", asks: true, fits: always },
  { name: "tables", label: "Tables", fits: always },
  { name: "notes", label: "Notes", fits: (run, { keeps }) => keeps || run.notes.value.length > 0 },
];

export function Drawers({ context }: { readonly context: Context }) {
  const { session, more } = context;
  const run = session.store.shown.value;
  const views = more.bundle.value?.views;
  const connected = session.connected.value;
  const isOpen = (name: string) => more.open.value.includes(name);
  // Without a kernel there is only what has been sent.
  const there = DRAWERS.filter(
    ({ name, asks, fits }) =>
      run &&
      fits(run, session) &&
      (views ? views[name] : connected && more.possible) &&
      (!asks || connected || isOpen(name)),
  );
  // What Python lays beside this run is there to be seen.
  useReaction(() => {
    if (session.traits._beside.value && connected) more.show("compare", session);
  }, [connected]);
  // Notes are there to be read.
  useReaction(() => {
    if (run && run.notes.value.length > 0) more.show("notes", session);
  }, [run]);
  const open = there.filter(({ name }) => isOpen(name));
  if (there.length === 0) return null;
  return (
    <section class="dv-more" aria-label="More">
      <style>{more.style}</style>
      <div class="dv-choice">
        {there.map(({ name, label }) => (
          <Button
            key={name}
            data-testid={name}
            aria-expanded={isOpen(name)}
            onClick={() => {
              more.toggle(name);
              void more.want(session);
            }}
          >
            {label}
          </Button>
        ))}
      </div>
      {open.length > 0 && !views ? <p class="dv-foot">{more.problem.value || "Opening"}</p> : null}
      {open.map(({ name }) => {
        const View = views?.[name];
        return View ? <View key={name} context={context} /> : null;
      })}
    </section>
  );
}
