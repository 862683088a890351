// Notes that a teacher pins to a step, to words and to a part of the picture; going through them is a tour of the run.

import {
  Button,
  batch,
  type Context,
  fullNameOf,
  type Note,
  type Region,
  type Run,
  useLayoutEffect,
  useRef,
  useSignal,
} from "../../app/coreExports";

const HAIR = 1e-6;

interface Draft {
  /** Which note it takes the place of; the number of notes for one more. */
  readonly at: number;
  readonly note: Note;
}

export function Notes({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const { look, store } = session;
  const run = store.shown.value;
  const at = useSignal<number | null>(null);
  const draft = useSignal<Draft | null>(null);
  const problem = useSignal("");
  if (!run) return null;
  const notes = run.notes.value;
  const writes = session.keeps && session.connected.value;
  const current = at.value !== null && at.value < notes.length ? at.value : null;

  const go = (index: number) => {
    const note = notes[index];
    if (!note) return;
    player.pause();
    batch(() => {
      at.value = index;
      if (note.step !== null) session.goTo(note.step);
      look.pinned.value = note.words;
      look.hovered.value = null;
      const [u0, v0, u1, v1] = note.region ?? [];
      look.region.value =
        u0 !== undefined && v0 !== undefined && u1 !== undefined && v1 !== undefined ? { u0, v0, u1, v1 } : null;
    });
  };
  // The kernel tells the new notes to every view of the run; what was typed stays until it has taken it.
  const write = async (next: readonly Note[]) => {
    problem.value = "";
    try {
      await session.ask({ type: "notes", run: run.info.run, notes: next });
      draft.value = null;
    } catch (error) {
      problem.value = `This could not be kept. ${error instanceof Error ? error.message : error}`;
    }
  };
  const seen = (text: string): Note => {
    const region = look.region.value;
    return { text, step: look.step.value, words: look.pinned.value, region: region && cornersOf(region) };
  };
  const editor = () =>
    draft.value ? (
      <Editor
        run={run}
        draft={draft.value}
        change={(text) => {
          if (draft.value) draft.value = { ...draft.value, note: { ...draft.value.note, text } };
        }}
        save={({ at: place, note }) => write([...notes.slice(0, place), note, ...notes.slice(place + 1)])}
        drop={() => {
          draft.value = null;
        }}
      />
    ) : null;

  return (
    <section class="dv-notes" aria-label="Notes">
      <div class="dv-title">
        <h3>Notes</h3>
        {notes.length > 0 ? (
          <div>
            <Button class="dv-quiet" disabled={!current} onClick={() => go((current ?? 1) - 1)}>
              Previous
            </Button>
            <span role="status">{current === null ? notes.length : `${current + 1} of ${notes.length}`}</span>
            <Button
              class="dv-quiet"
              disabled={current === notes.length - 1}
              onClick={() => go(current === null ? 0 : current + 1)}
            >
              {current === null ? "Start" : "Next"}
            </Button>
          </div>
        ) : null}
        {writes && !draft.value ? (
          <Button
            class="dv-quiet"
            onClick={() => {
              draft.value = { at: notes.length, note: seen("") };
            }}
          >
            Add a note
          </Button>
        ) : null}
      </div>
      <ol>
        {notes.map((note, index) => (
          <li key={index} aria-current={index === current ? "step" : undefined}>
            {draft.value?.at === index ? (
              editor()
            ) : (
              <>
                <Button class="dv-where" onClick={() => go(index)}>
                  {whereOf(note, run)}
                </Button>
                <p>{note.text}</p>
                {writes && !draft.value ? (
                  <div>
                    <Button
                      class="dv-quiet"
                      aria-label={`Edit note ${index + 1}`}
                      onClick={() => {
                        draft.value = { at: index, note };
                      }}
                    >
                      Edit
                    </Button>
                    <Button
                      class="dv-quiet"
                      aria-label={`Remove note ${index + 1}`}
                      onClick={() => write(notes.filter((_, other) => other !== index))}
                    >
                      Remove
                    </Button>
                  </div>
                ) : null}
              </>
            )}
          </li>
        ))}
      </ol>
      {draft.value?.at === notes.length ? editor() : null}
      {notes.length === 0 && !draft.value ? (
        <p class="dv-foot">Choose a step, words or a part of the picture, and say what to look at.</p>
      ) : null}
      {problem.value ? (
        <p class="dv-foot" role="alert">
          {problem.value}
        </p>
      ) : null}
    </section>
  );
}

interface EditorProps {
  readonly run: Run;
  readonly draft: Draft;
  readonly change: (text: string) => void;
  readonly save: (draft: Draft) => void;
  readonly drop: () => void;
}

function Editor({ run, draft, change, save, drop }: EditorProps) {
  const empty = draft.note.text.trim() === "";
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => field.current?.focus(), []);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (!empty) save(draft);
      }}
    >
      <label>
        <span>{whereOf(draft.note, run)}</span>
        <textarea
          rows={2}
          maxLength={4000}
          placeholder="What is to be seen here?"
          value={draft.note.text}
          ref={field}
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") drop();
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !empty) save(draft);
          }}
        />
      </label>
      <button type="submit" class="dv-quiet" disabled={empty}>
        Keep
      </button>
      <Button class="dv-quiet" onClick={drop}>
        Cancel
      </Button>
    </form>
  );
}

/** What a note is about, in words. */
/** A place as notes have it, which is never empty: a click marks a point, and a point gets a hair's breadth. */
function cornersOf({ u0, v0, u1, v1 }: Region): number[] {
  const [left, top] = [Math.min(u0, 1 - HAIR), Math.min(v0, 1 - HAIR)];
  return [left, top, Math.max(u1, left + HAIR), Math.max(v1, top + HAIR)];
}

function whereOf({ step, words, region }: Note, { info }: Run): string {
  const names = words.flatMap((index) => (info.words[index] ? [fullNameOf(info.words[index])] : []));
  const parts = [step === null ? "The whole run" : `Step ${step + 1}`];
  if (names.length > 0) parts.push(names.join(", "));
  if (region) parts.push("a part of the picture");
  return parts.join(" · ");
}
