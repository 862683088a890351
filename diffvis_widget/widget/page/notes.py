"""Notes on a run that the page has written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session

MOST = 200


def rewrite(session: Session, run: str, told: list[Any]) -> None:
    """Put notes that the page sent in the place of a run's: all of them, or none where one is refused.

    Raises:
        ValueError: the run is not kept, there are too many notes, or one is not what `Note` takes.
        LookupError: a note is about a step or a word that the run does not have.
    """
    trace = session.history.find(run).trace
    assert trace is not None  # only such runs are kept
    if len(told) > MOST:
        raise ValueError(f"a run can have {MOST} notes, not {len(told)}")
    before = list(trace.notes)
    trace.notes.clear()
    try:
        for note in told:
            match note:
                case {"text": text, "step": step, "words": list(words), "region": region}:
                    trace.note(text, step, words, region)
                case _:
                    raise ValueError("a note needs a text, a step or null, a list of words, and a region or null")
    except (ValueError, LookupError):
        trace.notes[:] = before
        raise
    except TypeError as error:
        trace.notes[:] = before
        raise ValueError(str(error)) from error
    session.replay.noted(trace)
