"""Measurements kept line by line, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path("benchmarks/explain")
Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """The lines of a file of JSON lines, none where it is not there; a last one that was cut off is left out."""
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8").splitlines()
    lines: list[Line] = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise ValueError(f"{path}, line {number}, is no JSON: {error}") from None
    return lines


def kept(path: Path, model: str) -> list[Line]:
    """What is there of an earlier run, with a line that was cut off removed from the file.

    model: the fingerprint of the weights; every line has one. Raises ValueError where it is another, or for a file that
    holds something else.
    """
    lines = read(path)
    for line in lines:
        if line["model"] != model:
            raise ValueError(f"{path} was measured on other weights ({line['model']}, now {model}): move it away first")
    if path.exists():
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")
    return lines


def append(path: Path, line: Line) -> None:
    """Add a line; the folder is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
