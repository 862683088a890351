"""Measurements as JSON lines, so that an interrupted evaluation can resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path("benchmarks/explain")
Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """Read a file of JSON lines.

    Args:
        path: The file; it may be missing.

    Returns:
        Its lines; empty for a missing file. A truncated last line is left out.

    Raises:
        ValueError: If any other line is not JSON.
    """
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8").splitlines()
    lines: list[Line] = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number < len(texts):
                raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None
    return lines


def resume(path: Path, model: str) -> list[Line]:
    """Read the lines of an earlier evaluation, and remove a truncated last line from the file.

    Args:
        path: The file; it may be missing.
        model: Fingerprint of the weights; every line holds the one it was measured on.

    Returns:
        The lines.

    Raises:
        ValueError: If a line was measured on other weights, or is not JSON.
    """
    lines = read(path)
    for line in lines:
        if line["model"] != model:
            raise ValueError(f"{path} was measured on other weights ({line['model']}, now {model}): move it away first")
    if path.exists():
        path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")
    return lines


def append(path: Path, line: Line) -> None:
    """Append a line, creating the folder if necessary.

    Args:
        path: The file.
        line: The measurements.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, separators=(",", ":")) + "\n")
