// The views that open on request, by the names of their buttons.

import type { Views } from "../core/more";
import { LayerGrid } from "./LayerGrid";

export const views: Views = { layers: LayerGrid };
