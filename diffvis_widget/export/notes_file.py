"""Reads notes from a JSON file, for pages that are made in a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from diffvis_widget.arguments import did_you_mean, shorten
from diffvis_widget.traces import Note

MAX_FILE = 2_000_000  # bytes
FIELDS = ("text", "step", "words", "region", "expects")


def read_notes(path: Path) -> list[Note]:
    """Read notes, such as the tasks of a lesson.

    Args:
        path: A JSON file: a list of objects with the fields of `diffvis_widget.Note`, of which only ``text`` is needed.

    Returns:
        The notes.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such file; the message names the note and what is wrong with it.
    """
    if path.stat().st_size > MAX_FILE:
        raise ValueError(f"{path} has more than {MAX_FILE // 1_000_000} MB: it is no file of notes")
    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(rows, list):
        raise ValueError(f'{path} must hold a list of notes, such as [{{"text": "Paint the moon"}}]')
    return [_note(path, number, row) for number, row in enumerate(cast("list[Any]", rows), start=1)]


def _note(path: Path, number: int, row: Any) -> Note:
    if not isinstance(row, dict) or "text" not in row:
        raise ValueError(f'{path}: note {number} must be an object with a "text", not {shorten(row)}')
    for name in cast("dict[str, Any]", row):
        if name not in FIELDS:
            hint = did_you_mean(name, FIELDS) or f"; it has {', '.join(FIELDS)}"
            raise ValueError(f"{path}: note {number} has no field {name!r}{hint}")
    try:
        return Note(**row)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: note {number}: {error}") from None
