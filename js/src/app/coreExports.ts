// What drawers may use of the core. Their script is built separately and imports this module only: there it stands for
// the copy in the core's own script, so that both share one Preact and one set of signals.

export {
  batch,
  computed,
  effect,
  type ReadonlySignal,
  type Signal,
  signal,
  untracked,
  useComputed,
  useSignal,
} from "@preact/signals";
export { createElement, Fragment } from "preact";
export { useLayoutEffect, useMemo, useRef } from "preact/hooks";
export { alignWords } from "../core/alignWords";
export { colourAt, lookup } from "../core/colormap";
export type { Context } from "../core/context";
export { NOT_RECORDED, plain, score, value } from "../core/format";
export { ATTENTION } from "../core/host";
export type { ImageCache } from "../core/images";
export type { LateParts, SuggestionsProps, WordPopoverProps } from "../core/lateParts";
export { cells, type Region } from "../core/mapSampling";
export { unpack } from "../core/packedRun";
export type { Expects, Maps, Message, Note, StepMessage, Word } from "../core/protocol";
export { decode } from "../core/protocol";
export { bytes, listOf, maybe, number, object, pair, recordOf, text, whole } from "../core/readers";
export type { Session } from "../core/session";
export { stepIndex, stepNumber } from "../core/stepNumbers";
export { type Run, RunStore } from "../core/store";
export type { Card, Tour } from "../core/tour";
export type { Lens, LensExport } from "../core/viewState";
export { unknownText, type Vocabulary } from "../core/vocabulary";
export { colourOf, distinctName, fullNameOf, peakOf } from "../core/wordLabels";
export { contentWords } from "../stage/labels";
export { Overlay } from "../stage/overlay";
export { fitImage, StageImage } from "../stage/stageImage";
export { Button } from "../ui/Button";
export { Choice } from "../ui/Choice";
export { CrossIcon } from "../ui/icons";
export { MapCanvas } from "../ui/MapCanvas";
export { NumberField } from "../ui/NumberField";
export { usePlaced } from "../ui/placed";
export { useRovingFocus } from "../ui/rovingFocus";
export { linePath, SPARK } from "../ui/spark";
export { useCanvas, useReaction } from "../ui/useCanvas";
export { clipping, visiblePart } from "./scrolling";
