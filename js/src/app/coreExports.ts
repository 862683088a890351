// What the views that open on request take from the core. They are built apart, so they import it from here and nowhere
// else: in their script this module is what the core hands them, so that both share one Preact and one set of signals.

export {
  batch,
  computed,
  effect,
  type ReadonlySignal,
  type Signal,
  signal,
  useComputed,
  useSignal,
} from "@preact/signals";
export { createElement, Fragment } from "preact";
export { useLayoutEffect, useMemo, useRef } from "preact/hooks";
export { align } from "../core/alignWords";
export type { Context } from "../core/context";
export { NOT_KEPT, plain, score, value } from "../core/format";
export { ATTENTION } from "../core/host";
export { cells, type Region } from "../core/mapSampling";
export { unpack } from "../core/packedRun";
export type { Maps, Message, Note, StepMessage } from "../core/protocol";
export { decode } from "../core/protocol";
export { bytes, listOf, maybe, number, object, pair, text, whole } from "../core/readers";
export type { Session } from "../core/session";
export { type Run, RunStore } from "../core/store";
export type { Lens, LensExport } from "../core/viewState";
export { colourOf, fullNameOf } from "../core/wordLabels";
export { Overlay } from "../stage/overlay";
export { place, StagePicture } from "../stage/stageImage";
export { Button } from "../ui/Button";
export { Choice } from "../ui/Choice";
export { MapCanvas } from "../ui/MapCanvas";
export { NumberField } from "../ui/NumberField";
export { useArrows } from "../ui/rovingFocus";
export { linePath, SPARK } from "../ui/spark";
export { useCanvas, useReaction } from "../ui/useCanvas";
