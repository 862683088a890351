// The whole widget: where each view has its place is said in the style sheet.

import type { Context } from "./context";
import { Drawers } from "./Drawers";
import { Meters } from "./Meters";
import { PromptBar } from "./PromptBar";
import { Stage } from "./Stage";
import { StatusLine } from "./StatusLine";
import { Timeline } from "./Timeline";
import { WordMaps } from "./WordMaps";

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
