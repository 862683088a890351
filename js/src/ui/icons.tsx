// Icons, 16 x 16, in the colour of the text.

import type { JSX } from "preact";

/**
 * `path` is stroked with `width`, or filled without it. Each use creates an element: one shared by the module would keep
 * the last page element that contained it alive.
 */
function icon(path: string, width?: number): () => JSX.Element {
  const [fill, stroke] = width ? ["none", "currentColor"] : ["currentColor", "none"];
  return () => (
    <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
      <path d={path} fill={fill} stroke={stroke} stroke-width={width} stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

export const PlayIcon = icon("M5 3.2v9.6a.6.6 0 0 0 .9.5l7.6-4.8a.6.6 0 0 0 0-1L5.9 2.7a.6.6 0 0 0-.9.5z");
export const PauseIcon = icon(
  "M4.5 3h2a.5.5 0 0 1 .5.5v9a.5.5 0 0 1-.5.5h-2a.5.5 0 0 1-.5-.5v-9a.5.5 0 0 1 .5-.5zm5 0h2a.5.5 0 0 1 .5.5v9a.5.5 0 0 1-.5.5h-2a.5.5 0 0 1-.5-.5v-9a.5.5 0 0 1 .5-.5z",
);
export const PingPongIcon = icon("M2 5.5h11m-3-3 3 3-3 3M14 10.5H3m3-3-3 3 3 3", 1.3);
export const DiceIcon = icon(
  "M5.2 2.6h5.6a2.6 2.6 0 0 1 2.6 2.6v5.6a2.6 2.6 0 0 1-2.6 2.6H5.2a2.6 2.6 0 0 1-2.6-2.6V5.2a2.6 2.6 0 0 1 2.6-2.6zM5.5 5.5h.01m4.99 0h.01M8 8h.01M5.5 10.5h.01m4.99 0h.01",
  1.4,
);
export const PencilIcon = icon(
  "m3 13 .6-2.8L10.8 3a1.3 1.3 0 0 1 1.8 0l.4.4a1.3 1.3 0 0 1 0 1.8l-7.2 7.2zM9.6 4.2l2.2 2.2",
  1.3,
);
export const AdjustIcon = icon(
  "M2.5 5h6m4 0h1m-11 6h1m4 0h6M10.5 3.4a1.6 1.6 0 1 1 0 3.2 1.6 1.6 0 0 1 0-3.2zm-5 6a1.6 1.6 0 1 1 0 3.2 1.6 1.6 0 0 1 0-3.2z",
  1.3,
);
export const ContourIcon = icon(
  "M3 9c-1.5-4 2-7 6-6s6 5 3 8-7.5 2-9-2zm3-1c-.5-1.5 1-3 2.5-2.5s2.5 2 1.5 3.5-3.5 1-4-1z",
  1.2,
);
export const FullScreenIcon = icon(
  "M2.5 6V3a.5.5 0 0 1 .5-.5h3m4 0h3a.5.5 0 0 1 .5.5v3m0 4v3a.5.5 0 0 1-.5.5h-3m-4 0H3a.5.5 0 0 1-.5-.5v-3",
  1.3,
);
export const LabelIcon = icon("M2.5 4.5V3h7v1.5M6 3v8M4.5 11h3M10 9.5v-1h4v1M12 8.5v5m-1 0h2", 1.2);
export const CrossIcon = icon("m4.5 4.5 7 7m0-7-7 7", 1.3);
