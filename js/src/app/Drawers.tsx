// The drawers: a row of buttons built from their manifests, and the drawers that are open.

import { untracked } from "@preact/signals";
import type { Context } from "../core/context";
import type { DrawerManifest } from "../core/drawer";
import { Button } from "../ui/Button";
import { useReaction } from "../ui/useCanvas";

/** The drawers that have something to show of this run, and can be shown. */
function offeredDrawers({ session, drawers }: Context): readonly DrawerManifest[] {
  const run = session.store.shown.value;
  const connected = session.connected.value;
  return drawers.manifests.value.filter(
    ({ name, needsKernel, isOffered }) =>
      run &&
      isOffered?.(run, session) !== false &&
      (drawers.drawer(name) || (connected && drawers.needsLoading(name))) &&
      (!needsKernel || connected || drawers.open.value.includes(name)),
  );
}

/** The open ones among them. */
export function openDrawers(context: Context): readonly DrawerManifest[] {
  const open = context.drawers.open.value;
  return open.length === 0 ? [] : offeredDrawers(context).filter(({ name }) => open.includes(name));
}

export function DrawerBar({ context }: { readonly context: Context }) {
  const { session, drawers } = context;
  const offered = offeredDrawers(context);
  // The row keeps its height before there are buttons, so that nothing below the widget moves when a run begins.
  if (!drawers.isAvailable) return null;
  return (
    <nav class="dv-drawer-bar" aria-label="Drawers">
      <style>{drawers.style}</style>
      {drawers.manifests.value.map((manifest) => (
        <SelfOpening key={manifest.name} context={context} manifest={manifest} />
      ))}
      <div class="dv-choice">
        {offered.map(({ name, label, title }) => (
          <Button
            key={name}
            data-testid={name}
            title={title}
            aria-label={title}
            aria-expanded={drawers.open.value.includes(name)}
            onClick={() => drawers.toggle(name, session)}
          >
            {label}
          </Button>
        ))}
      </div>
    </nav>
  );
}

export function Drawers({ context }: { readonly context: Context }) {
  const { drawers } = context;
  const open = openDrawers(context);
  if (open.length === 0) return null;
  return (
    <section class="dv-drawers" aria-label="Open drawers">
      {open.some(({ name }) => drawers.needsLoading(name)) ? (
        <p class="dv-foot">{drawers.problem.value || "Opening"}</p>
      ) : null}
      {open.map(({ name }) => {
        const View = drawers.drawer(name)?.View;
        return View ? <View key={name} context={context} /> : null;
      })}
    </section>
  );
}

interface SelfOpeningProps {
  readonly context: Context;
  readonly manifest: DrawerManifest;
}

function SelfOpening({ context: { session, drawers }, manifest: { name, opensItself } }: SelfOpeningProps) {
  useReaction(() => {
    if (opensItself?.(session)) untracked(() => drawers.show(name, session));
  }, [session, name]);
  return null;
}
