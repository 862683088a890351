// Hand-made icons, 16 x 16, drawn in the text's colour.

import type { JSX } from "preact";

function icon(path: JSX.Element): () => JSX.Element {
  return () => (
    <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
      {path}
    </svg>
  );
}

export const PlayIcon = icon(
  <path d="M5 3.2v9.6a.6.6 0 0 0 .9.5l7.6-4.8a.6.6 0 0 0 0-1L5.9 2.7a.6.6 0 0 0-.9.5z" fill="currentColor" />,
);
export const PauseIcon = icon(
  <path
    d="M4.5 3h2a.5.5 0 0 1 .5.5v9a.5.5 0 0 1-.5.5h-2a.5.5 0 0 1-.5-.5v-9a.5.5 0 0 1 .5-.5zm5 0h2a.5.5 0 0 1 .5.5v9a.5.5 0 0 1-.5.5h-2a.5.5 0 0 1-.5-.5v-9a.5.5 0 0 1 .5-.5z"
    fill="currentColor"
  />,
);
export const PingPongIcon = icon(
  <path
    d="M2 5.5h11m-3-3 3 3-3 3M14 10.5H3m3-3-3 3 3 3"
    fill="none"
    stroke="currentColor"
    stroke-width="1.3"
    stroke-linecap="round"
    stroke-linejoin="round"
  />,
);
export const DiceIcon = icon(
  <>
    <rect x="2.6" y="2.6" width="10.8" height="10.8" rx="2.6" fill="none" stroke="currentColor" stroke-width="1.2" />
    <circle cx="5.7" cy="5.7" r="1" fill="currentColor" />
    <circle cx="10.3" cy="5.7" r="1" fill="currentColor" />
    <circle cx="8" cy="8" r="1" fill="currentColor" />
    <circle cx="5.7" cy="10.3" r="1" fill="currentColor" />
    <circle cx="10.3" cy="10.3" r="1" fill="currentColor" />
  </>,
);
export const ContourIcon = icon(
  <path
    d="M3 9c-1.5-4 2-7 6-6s6 5 3 8-7.5 2-9-2zm3-1c-.5-1.5 1-3 2.5-2.5s2.5 2 1.5 3.5-3.5 1-4-1z"
    fill="none"
    stroke="currentColor"
    stroke-width="1.2"
  />,
);
export const CrossIcon = icon(
  <path d="m4.5 4.5 7 7m0-7-7 7" fill="none" stroke="currentColor" stroke-width="1.3" stroke-linecap="round" />,
);
export const PenIcon = icon(
  <path
    d="m3 13 .6-2.6 7-7a1.2 1.2 0 0 1 1.7 0l.3.3a1.2 1.2 0 0 1 0 1.7l-7 7z"
    fill="none"
    stroke="currentColor"
    stroke-width="1.2"
    stroke-linejoin="round"
  />,
);
