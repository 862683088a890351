// What the kernel sends when somebody turns to the widget: views by the names of their buttons, and what needs no view.

import type { Bundle } from "../core/more";
import { Compare } from "./Compare";
import { Decision } from "./Decision";
import { Export } from "./Export";
import { LayerGrid } from "./LayerGrid";
import { Methods } from "./Methods";
import { Notes } from "./Notes";
import { orderMeters } from "./order";
import { RunList } from "./RunList";
import { readOut } from "./readouts";
import { layMaps } from "./saliency";
import { Tables } from "./Tables";
import { weighChips } from "./weigh";

export const more: Bundle = {
  views: { Layers: LayerGrid, Methods, Compare, Decision, Runs: RunList, Tables, Notes, Export },
  install(context, root, signal) {
    weighChips(context, root, signal);
    orderMeters(context, root, signal);
    readOut(context, root, signal);
    layMaps(context, root, signal);
  },
};
