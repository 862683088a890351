"""Reads the prompts of a study: from a list, a table in memory, or a CSV, TSV, Parquet, JSON lines or text file."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffvis_widget.arguments import items, shorten, whole_number

from .columns import RESERVED, plain_value

Roles = tuple[tuple[str | int, str], ...]
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".txt")
_EXPECTED = "a list of texts or dictionaries, a DataFrame, or the path of a file (" + ", ".join(SUFFIXES) + ")"
_OWN_KEYS = {"prompt", "seed", "roles", "columns"}  # of `PromptRow.as_json`
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class PromptRow:
    """A prompt of a study, with what its table says about it.

    Attributes:
        prompt: The text.
        seed: Its own seed; None where the seeds of the study apply.
        roles: (word, role) pairs; words as for `Trace.heat_map`.
        columns: Its other columns: texts, numbers, truth values or None.
    """

    prompt: str
    seed: int | None = None
    roles: Roles = ()
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """Describe it as JSON, for the file of prompts.

        Returns:
            Plain values.
        """
        return {
            "prompt": self.prompt,
            "seed": self.seed,
            "roles": [list(pair) for pair in self.roles],
            "columns": dict(self.columns),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PromptRow:
        """Restore it from `as_json`.

        Args:
            entry: Plain values.

        Returns:
            The prompt.
        """
        roles = tuple((word, role) for word, role in entry["roles"])
        return cls(entry["prompt"], entry["seed"], roles, entry["columns"])


def read_prompts(source: Any) -> list[PromptRow]:
    """Read prompts.

    Args:
        source: Texts; dictionaries with a "prompt"; a pandas DataFrame; or the path of a file. A file of text has one
            prompt a line. The other formats have a column "prompt" (in any case). A column "seed" replaces the seeds of
            the study, "roles" holds a dictionary of roles by word, and all other columns are kept. The prompts.jsonl in
            the folder of a study is such a file too.

    Returns:
        The prompts, at least one, without repetitions.

    Raises:
        TypeError: The source is something else, or a value is no text or number.
        ValueError: There is no prompt, an empty one, no column of prompts, or a column has a reserved name.
        OSError: The file cannot be read.

    Example:
        >>> read_prompts(["a red circle", {"prompt": "a blue star", "category": "colour"}])[1].columns
        {'category': 'colour'}
    """
    if isinstance(source, str | os.PathLike):
        entries = _from_file(Path(os.fspath(source)))
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        entries = source.to_dict("records")
    else:
        entries = items("prompts", source, _EXPECTED)
    rows = [_row(number, entry) for number, entry in enumerate(entries, start=1)]
    if not rows:
        content = f"{source} holds none" if isinstance(source, str | os.PathLike) else f"not {shorten(source)}"
        raise ValueError(f"prompts must hold one prompt or more; {content}")
    if len({row.seed is None for row in rows}) > 1:
        raise ValueError("prompts: a column seed must hold the seed of every prompt, or of none")
    return list({json.dumps(row.as_json()): row for row in _same_types(rows)}.values())


def _row(number: int, entry: Any) -> PromptRow:
    if isinstance(entry, str):
        entry = {"prompt": entry}
    if not isinstance(entry, Mapping):
        raise TypeError(f"prompts: entry {number} must be a text or a dictionary, not {shorten(entry)}")
    by_name = {str(name).strip(): value for name, value in entry.items()}
    keys = [name for name in by_name if name.lower() == "prompt"]
    if not keys:
        raise ValueError(f"prompts: entry {number} has no column prompt; it has {', '.join(by_name) or 'none'}")
    text = by_name.pop(keys[0])
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"prompts: entry {number} must hold a prompt, a text with letters, not {shorten(text)}")
    seed, roles = _seed(number, by_name.pop("seed", None)), _roles(number, by_name.pop("roles", None))
    for name in by_name:
        if name in RESERVED or not name:
            raise ValueError(f"prompts: a study has its own column {name!r}; rename that of the prompts")
    return PromptRow(text, seed, roles, {name: plain_value(value) for name, value in by_name.items()})


def _seed(number: int, value: Any) -> int | None:
    if value is None or value == "" or value != value:
        return None
    seed = whole_number(int(value) if isinstance(value, float | str) and float(value).is_integer() else value)
    if seed is None or not 0 <= seed <= MAX_SEED:
        raise ValueError(
            f"prompts: the seed of entry {number} must be a whole number of 0 or more, not {shorten(value)}"
        )
    return seed


def _roles(number: int, value: Any) -> Roles:
    if value is None or value == "" or value != value:
        return ()
    try:
        mapping = json.loads(value) if isinstance(value, str) else dict(value)
        pairs = tuple((word, role) for word, role in mapping.items() if role is not None)
    except (ValueError, TypeError, AttributeError):
        pairs = ((None, None),)
    if not all(isinstance(word, str | int) and isinstance(role, str) for word, role in pairs):
        example = '{"circle": "object", "red": "colour"}'
        raise ValueError(f"prompts: the roles of entry {number} must be a dictionary such as {example}")
    return pairs  # pyright: ignore[reportReturnType]


def _same_types(rows: Sequence[PromptRow]) -> Iterable[PromptRow]:
    """Gives each column the same type in all rows: truth values, numbers, or texts."""
    names = list(dict.fromkeys(name for row in rows for name in row.columns))
    texts: set[str] = set()
    for name in names:
        values = [row.columns.get(name) for row in rows]
        kinds = {bool if isinstance(value, bool) else type(value) for value in values if value is not None}
        if len(kinds) > 1:
            texts.add(name)
    for row in rows:
        columns = {name: row.columns.get(name) for name in names}
        columns |= {name: str(columns[name]) for name in texts if columns[name] is not None}
        yield PromptRow(row.prompt, row.seed, row.roles, columns)


def _from_file(path: Path) -> list[Any]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"prompts must be {_EXPECTED}, not {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"prompts: there is no file {path}")
    if suffix == ".parquet":
        import pyarrow.parquet as parquet

        return parquet.read_table(path).to_pylist()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".txt":
            return [line.strip() for line in text.splitlines() if line.strip()]
        if suffix in (".jsonl", ".ndjson"):
            return [_flat(json.loads(line)) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"prompts: {path} cannot be read as {suffix}: {error}") from error
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter="\t" if suffix == ".tsv" else ",")
    return _numbers([{name: value for name, value in entry.items() if name is not None} for entry in reader])


def _flat(entry: Any) -> Any:
    """An entry of a study's own file of prompts, as a user writes it."""
    if isinstance(entry, dict) and entry.keys() == _OWN_KEYS and isinstance(entry["columns"], dict):
        return {**entry["columns"], **{name: entry[name] for name in ("prompt", "seed", "roles")}}
    return entry


def _numbers(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reads the columns of a CSV file as numbers where every value is one; an empty cell is None."""
    for name in entries[0] if entries else ():
        if name.lower() == "prompt":
            continue
        values = [entry.get(name) or None for entry in entries]
        try:
            numbers = [None if value is None else float(value) for value in values]
        except ValueError:
            numbers = values
        for entry, number in zip(entries, numbers, strict=True):
            entry[name] = number
    return entries
