// The whole widget. The style sheet lays out the views.

import { useRef } from "preact/hooks";
import type { Context } from "../core/context";
import { Stage } from "../stage/Stage";
import { Meters } from "../views/Meters";
import { PromptBar } from "../views/PromptBar";
import { StatusLine } from "../views/StatusLine";
import { Timeline } from "../views/Timeline";
import { Tip } from "../views/Tip";
import { WordMaps } from "../views/WordMaps";
import { DrawerBar, Drawers, openDrawers } from "./Drawers";
import { useRevealOnRun } from "./scrolling";

export function Viewer({ context }: { readonly context: Context }) {
  const body = useRef<HTMLDivElement>(null);
  const { StickyStage, TourCards } = context.drawers.late;
  const image = context.session.store.shown.value?.info.image;
  const hasDrawer = openDrawers(context).length > 0;
  useRevealOnRun(body, context.session);
  return (
    <div
      class="dv-body"
      ref={body}
      data-drawer={hasDrawer || undefined}
      data-pair={context.onStage.value?.isPair || undefined}
      style={image && { "--ratio": image[1] / Math.max(1, image[0]) }}
      data-gone={!context.session.connected.value || undefined}
    >
      <PromptBar context={context} />
      <StatusLine context={context} />
      <div class="dv-look">
        <Stage context={context} />
        <Timeline context={context} />
        <Meters context={context} />
        <WordMaps context={context} />
      </div>
      <DrawerBar context={context} />
      <Drawers context={context} />
      {StickyStage && hasDrawer ? <StickyStage body={body} /> : null}
      {TourCards ? <TourCards context={context} /> : null}
      <Tip />
    </div>
  );
}
