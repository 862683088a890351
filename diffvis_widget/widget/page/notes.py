"""Notes on a run that a reader of the page writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session

MAX_NOTES = 200
MAX_WORDS = 2000  # of all notes together


def replace_notes(session: Session, run: str, notes: list[Any]) -> None:
    """Replace the notes of a run by those that the page sent: by all of them, or by none if one is refused.

    Args:
        session: the session of the widget.
        run: the id of the run.
        notes: the notes as JSON data.

    Raises:
        ValueError: the run is not kept, there are too many notes, or one is not what `Note` takes.
        LookupError: a note names a step or a word that the run does not have.
    """
    trace = session.history.find(run).trace
    assert trace is not None  # only such runs are kept
    if len(notes) > MAX_NOTES:
        raise ValueError(f"a run can have {MAX_NOTES} notes, not {len(notes)}")
    words = sum(len(note["words"]) for note in notes if isinstance(note, dict) and isinstance(note.get("words"), list))
    if words > MAX_WORDS:
        raise ValueError(f"the notes of a run can name {MAX_WORDS} words in all, not {words}")
    before = list(trace.notes)
    trace.notes.clear()
    try:
        for note in notes:
            match note:
                case {"text": text, "step": step, "words": list(words), "region": region}:
                    trace.note(text, step, words, region, _expects(note))
                case _:
                    raise ValueError("a note needs a text, a step or null, a list of words, and a region or null")
    except BaseException:
        trace.notes[:] = before
        raise
    session.replay.update_notes(trace)


def _expects(note: dict[str, Any]) -> Any:
    """What the note expects as text; the page sends back what it was given, the text with its conditions."""
    expects = note.get("expects")
    return expects.get("text", "") if isinstance(expects, dict) else expects
