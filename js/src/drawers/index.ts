// What the kernel sends when somebody turns to the widget: views by the names of their buttons, and what needs no view.

import type { Context } from "../core/context";
import type { Bundle } from "../core/drawerBundle";
import { Compare } from "./compare/Compare";
import { Decision } from "./decision/Decision";
import { Export } from "./export/Export";
import { LayerGrid } from "./layers/LayerGrid";
import { Methods } from "./methods/Methods";
import { layMaps } from "./methods/saliency";
import { Notes } from "./notes/Notes";
import { RunList } from "./runs/RunList";
import { Tables } from "./tables/Tables";

export const more: Bundle<Context> = {
  views: { Layers: LayerGrid, Methods, Compare, Decision, Runs: RunList, Tables, Notes, Export },
  install(context, root, signal) {
    layMaps(context, root, signal);
  },
};
