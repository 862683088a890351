// The whole widget. The style sheet lays out the views.

import type { Context } from "../core/context";
import { Stage } from "../stage/Stage";
import { Meters } from "../views/Meters";
import { PromptBar } from "../views/PromptBar";
import { StatusLine } from "../views/StatusLine";
import { Timeline } from "../views/Timeline";
import { WordMaps } from "../views/WordMaps";
import { Drawers } from "./Drawers";

export function Viewer({ context }: { readonly context: Context }) {
  return (
    <div class="dv-body" data-gone={!context.session.connected.value || undefined}>
      <PromptBar context={context} />
      <StatusLine context={context} />
      <Stage context={context} />
      <Timeline context={context} />
      <Meters context={context} />
      <WordMaps context={context} />
      <Drawers context={context} />
    </div>
  );
}
