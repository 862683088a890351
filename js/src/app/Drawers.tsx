// What opens on request, in place: a row of names, and under it the views that are open.

import type { Context } from "../core/context";
import type { Session } from "../core/session";
import type { Run } from "../core/store";
import { Button } from "../ui/Button";
import { useReaction } from "../ui/useCanvas";

/** `asks`: it shows what only the kernel has. `fits`: whether there is anything behind it; without, there always is. */
type Drawer = readonly [name: string, asks: boolean, fits?: (run: Run, session: Session) => boolean];

const DRAWERS: readonly Drawer[] = [
  ["Layers", true, (run) => run.info.layers > 0 && run.mapped],
  ["Methods", true],
  ["Compare", true],
  ["Decision", true],
  ["Runs", true],
  ["Tables", false],
  ["Notes", false, (run, { keeps }) => keeps || run.notes.value.length > 0],
  ["Export", true],
];

export function Drawers({ context }: { readonly context: Context }) {
  const { session, more } = context;
  const run = session.store.shown.value;
  const views = more.bundle.value?.views;
  const connected = session.connected.value;
  const isOpen = (name: string) => more.open.value.includes(name);
  // Without a kernel there is only what has been sent.
  const there = DRAWERS.filter(
    ([name, asks, fits]) =>
      run &&
      fits?.(run, session) !== false &&
      (views ? views[name] : connected && more.possible) &&
      (!asks || connected || isOpen(name)),
  );
  // What Python lays beside this run, or on its stage, is there to be seen.
  useReaction(() => {
    if (session.traits._beside.value && connected) more.show("Compare", session);
  }, [connected]);
  useReaction(() => {
    if (session.traits.overlay.value !== "attention" && connected) more.show("Methods", session);
  }, [connected]);
  // Notes are there to be read.
  useReaction(() => {
    if (run?.notes.value.length) more.show("Notes", session);
  }, [run]);
  const open = there.filter(([name]) => isOpen(name));
  // The room is there before the buttons are: nothing below the widget moves when a run begins.
  if (!more.possible) return null;
  return (
    <section class="dv-more" aria-label="More">
      <style>{more.style}</style>
      <div class="dv-choice">
        {there.map(([name]) => (
          <Button
            key={name}
            data-testid={name.toLowerCase()}
            aria-expanded={isOpen(name)}
            onClick={() => {
              more.toggle(name);
              void more.want(session);
            }}
          >
            {name}
          </Button>
        ))}
      </div>
      {open.length > 0 && !views ? <p class="dv-foot">{more.problem.value || "Opening"}</p> : null}
      {open.map(([name]) => {
        const View = views?.[name];
        return View ? <View key={name} context={context} /> : null;
      })}
    </section>
  );
}
