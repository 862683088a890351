// The parts of the widget that come with the drawers, see core/lateParts.ts.

import type { Context, LateParts } from "../app/coreExports";
import { Pins } from "./Pins";
import { StickyStage } from "./StickyStage";
import { Suggestions } from "./Suggestions";
import { TourCards } from "./TourCards";
import { WordPopover } from "./WordPopover";
import { weightEvents } from "./wordWeight";

export const late: LateParts<Context> = {
  ...{ Pins, StickyStage, Suggestions, TourCards, WordPopover },
  weightEvents,
};
