// The notes of a run as pins on the filmstrip; each opens the card of its note.

import { Button, type Context, stepNumber } from "../app/coreExports";
import { noteCards } from "./noteCards";

export function Pins({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const run = session.store.shown.value;
  const notes = run?.notes.value ?? [];
  if (!run || notes.length === 0) return null;
  return (
    <div class="dv-pins">
      {notes.map(({ step, text }, index) =>
        step === null ? null : (
          <Button
            key={index}
            style={{ left: `${((step + 0.5) / run.length) * 100}%` }}
            title={text}
            aria-label={`Note ${index + 1}, step ${stepNumber(step)}`}
            onClick={() => {
              player.pause();
              session.viewState.tour.value = { cards: noteCards(session, run), at: index };
            }}
          >
            {index + 1}
          </Button>
        ),
      )}
    </div>
  );
}
