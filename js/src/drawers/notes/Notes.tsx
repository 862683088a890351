// Notes on a step, on words and on a region of the image; going through them is a tour of the run.

import {
  Button,
  type Context,
  type Note,
  type Region,
  type Run,
  useLayoutEffect,
  useMemo,
  useReaction,
  useRef,
  useSignal,
} from "../../app/coreExports";
import { noteCards, showNote, whereOf } from "../../late/noteCards";
import { RunHistory } from "../runHistory";
import { type TaskState, tasksOf } from "./tasks";

/** The least width and height of a region. */
const MIN_SIZE = 1e-6;

interface Draft {
  /** The index of the edited note; the number of notes for a new one. */
  readonly index: number;
  readonly note: Note;
}

export function Notes({ context }: { readonly context: Context }) {
  const { session, player } = context;
  const { viewState, store } = session;
  const run = store.shown.value;
  const chosen = useSignal<number | null>(null);
  const draft = useSignal<Draft | null>(null);
  const problem = useSignal("");
  const removed = useSignal<Draft | null>(null);
  const runs = useMemo(() => new RunHistory(session), [session]);
  const tasks = useMemo(() => tasksOf(session, runs), [session, runs]);
  useReaction(() => runs.request(), [runs]);
  if (!run) return null;
  const others = runs.entries.value.filter((entry) => entry.notes > 0 && entry.run !== run.info.run);
  const notes = run.notes.value;
  const states = tasks.states.value;
  const checked = states.filter((state) => state !== null);
  const canWrite = !session.isOffline && session.connected.value;
  const current = chosen.value !== null && chosen.value < notes.length ? chosen.value : null;

  const go = (index: number) => {
    const note = notes[index];
    if (!note) return;
    player.pause();
    chosen.value = index;
    showNote(session, note);
  };
  // The kernel sends the new notes to every view of the run; the draft stays until it has accepted them.
  const write = async (next: readonly Note[]) => {
    problem.value = "";
    try {
      await session.ask({ type: "notes", run: run.info.run, notes: next });
      draft.value = null;
    } catch (error) {
      problem.value = `The note could not be saved. ${error instanceof Error ? error.message : error}`;
    }
  };
  const newNote = (text: string): Note => {
    const region = viewState.region.value;
    return { text, step: viewState.step.value, words: viewState.pinned.value, region: region && cornersOf(region) };
  };
  const editor = () =>
    draft.value ? (
      <Editor
        run={run}
        draft={draft.value}
        change={(text) => {
          if (draft.value) draft.value = { ...draft.value, note: { ...draft.value.note, text } };
        }}
        save={({ index, note }) => write([...notes.slice(0, index), note, ...notes.slice(index + 1)])}
        cancel={() => {
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
            <Button
              class="dv-quiet"
              data-testid="note-cards"
              title="Point at the place of each note, one after the other"
              onClick={() => {
                player.pause();
                viewState.tour.value = { cards: noteCards(session, run), at: current ?? 0 };
              }}
            >
              Show as cards
            </Button>
          </div>
        ) : null}
        {canWrite ? (
          <Button
            class="dv-quiet"
            disabled={draft.value !== null}
            onClick={() => {
              draft.value = { index: notes.length, note: newNote("") };
            }}
          >
            Add a note
          </Button>
        ) : null}
      </div>
      {checked.length > 0 ? (
        <p class="dv-foot" role="status" data-testid="tasks-met">
          {`${checked.filter(isDone).length} of ${checked.length} tasks met`}
        </p>
      ) : null}
      <ol>
        {notes.map((note, index) => (
          <li key={index} aria-current={index === current ? "step" : undefined}>
            {draft.value?.index === index ? (
              editor()
            ) : (
              <>
                <Button class="dv-where" onClick={() => go(index)}>
                  {labelOf(note, run, states, index)}
                </Button>
                <p dir="auto">{note.text}</p>
                {states[index] ? <Check state={states[index]} /> : null}
                {canWrite && !draft.value ? (
                  <div>
                    <Button
                      class="dv-quiet"
                      aria-label={`Edit note ${index + 1}`}
                      onClick={() => {
                        draft.value = { index, note };
                      }}
                    >
                      Edit
                    </Button>
                    <Button
                      class="dv-quiet"
                      aria-label={`Remove note ${index + 1}`}
                      onClick={() => {
                        removed.value = { index, note };
                        void write(notes.filter((_, other) => other !== index));
                      }}
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
      {draft.value?.index === notes.length ? editor() : null}
      {notes.length === 0 && canWrite && !draft.value ? (
        <p class="dv-foot">Go to a step, select words or a region of the image, and write what to look at.</p>
      ) : null}
      {removed.value && canWrite && !draft.value ? (
        <p class="dv-foot" role="status">
          {"The note was removed. "}
          <Button
            class="dv-quiet"
            data-testid="undo-note"
            onClick={() => {
              if (removed.value) void write(notes.toSpliced(removed.value.index, 0, removed.value.note));
              removed.value = null;
            }}
          >
            Undo
          </Button>
        </p>
      ) : null}
      {others.map((entry) => (
        <p class="dv-foot" key={entry.run}>
          <Button class="dv-do" disabled={session.busy.value} onClick={() => session.show(entry.run)}>
            Show that run
          </Button>
          {` ${entry.notes === 1 ? "One note" : `${entry.notes} notes`} on another run, “${entry.prompt}”`}
        </p>
      ))}
      {problem.value ? (
        <p class="dv-foot" role="alert">
          {problem.value}
        </p>
      ) : null}
    </section>
  );
}

function isDone({ met, wasMet }: TaskState): boolean {
  return met || wasMet;
}

/** "Task 2" for a note that expects something, and what it is about. */
function labelOf(note: Note, run: Run, states: readonly (TaskState | null)[], index: number): string {
  const isAboutAll = note.step === null && note.words.length === 0 && !note.region;
  if (!states[index]) return whereOf(note, run);
  const task = `Task ${states.slice(0, index + 1).filter((state) => state !== null).length}`;
  return isAboutAll ? task : `${task} · ${whereOf(note, run)}`;
}

/** Whether the run at hand is what the note expects, and why. */
function Check({ state }: { readonly state: TaskState }) {
  const result = state.met ? "Met" : state.wasMet ? "Met by an earlier run" : "Not yet";
  return (
    <p class="dv-check" data-met={isDone(state) || undefined}>
      <b>{result}</b>
      {state.wasMet || !state.reason ? "" : `: ${state.reason}`}
    </p>
  );
}

interface EditorProps {
  readonly run: Run;
  readonly draft: Draft;
  readonly change: (text: string) => void;
  readonly save: (draft: Draft) => void;
  readonly cancel: () => void;
}

function Editor({ run, draft, change, save, cancel }: EditorProps) {
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
          placeholder="What should people notice here?"
          value={draft.note.text}
          ref={field}
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Escape") cancel();
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !empty) save(draft);
          }}
        />
      </label>
      <button type="submit" class="dv-quiet" disabled={empty}>
        Save
      </button>
      <Button class="dv-quiet" onClick={cancel}>
        Cancel
      </Button>
    </form>
  );
}

/** The corners of a region as notes take them: never empty, although a click marks a single point. */
function cornersOf({ u0, v0, u1, v1 }: Region): number[] {
  const [left, top] = [Math.min(u0, 1 - MIN_SIZE), Math.min(v0, 1 - MIN_SIZE)];
  return [left, top, Math.max(u1, left + MIN_SIZE), Math.max(v1, top + MIN_SIZE)];
}
