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
export { cells, type Region } from "./core/field";
export { NOT_KEPT, plain, score, value } from "./core/format";
export type { Lens } from "./core/look";
export type { Maps, Message, Note, StepMessage } from "./core/protocol";
export { bytes, decode, listOf, maybe, number, object, pair, text, unpack, whole } from "./core/protocol";
export type { Session } from "./core/session";
export { type Run, RunStore } from "./core/store";
export { align } from "./core/words";
export { useArrows } from "./views/arrows";
export { Button } from "./views/Button";
export { colourOf, fullNameOf } from "./views/Chips";
export { Choice } from "./views/Choice";
export { useCanvas, useReaction } from "./views/canvas";
export type { Context } from "./views/context";
export { MapCanvas } from "./views/MapCanvas";
export { NumberField } from "./views/NumberField";
export { Overlay } from "./views/overlay";
export { place, StagePicture } from "./views/picture";
export { linePath, SPARK } from "./views/spark";
