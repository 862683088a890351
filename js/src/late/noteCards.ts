// The notes of a run as cards that point at their place.

import { batch, type Card, fullNameOf, type Note, type Run, type Session, stepNumber } from "../app/coreExports";

/** What a note is about, in words. */
export function whereOf({ step, words, region }: Note, { info }: Run): string {
  const names = words.flatMap((index) => (info.words[index] ? [fullNameOf(info.words[index])] : []));
  const parts = [step === null ? "The whole run" : `Step ${stepNumber(step)}`];
  if (names.length > 0) parts.push(names.join(", "));
  if (region) parts.push("a region of the image");
  return parts.join(" · ");
}

/** Shows the step, the words and the region of a note. */
export function showNote(session: Session, note: Note): void {
  const { viewState } = session;
  batch(() => {
    if (note.step !== null) session.goTo(note.step);
    if (note.words.length > 0) viewState.lens.value?.remove?.();
    viewState.pinned.value = note.words;
    viewState.hovered.value = null;
    viewState.region.value = regionOf(note);
  });
}

/** A card for each note. */
export function noteCards(session: Session, run: Run): readonly Card[] {
  return run.notes.value.map((note) => {
    const [word] = note.words;
    return {
      title: whereOf(note, run),
      text: note.text,
      targets: note.region || word === undefined ? [".dv-stage .dv-frame"] : [`[data-word="${word}"]`, ".dv-prompt"],
      region: regionOf(note),
      show: () => showNote(session, note),
    };
  });
}

function regionOf({ region }: Note) {
  const [u0, v0, u1, v1] = region ?? [];
  return u0 !== undefined && v0 !== undefined && u1 !== undefined && v1 !== undefined ? { u0, v0, u1, v1 } : null;
}
