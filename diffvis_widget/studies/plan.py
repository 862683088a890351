"""The plan of a study: which rows there are, in which order, and what identifies them. It needs no model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conditions import Settings, completed, plain_settings
from .prompts import PromptRow

MOST_TOGETHER = 1024
"""Rows of a batch, at most."""


@dataclass(frozen=True)
class Task:
    """One row of a study, before its run.

    Attributes:
        row: Its number, from 0.
        entry: Its prompt.
        seed: Its seed.
        condition: Name of its condition.
    """

    row: int
    entry: PromptRow
    seed: int
    condition: str


@dataclass(frozen=True)
class Batch:
    """Rows that are run together.

    Attributes:
        members: Their numbers.
        wanted: Numbers of those to store; the others are stored already.
    """

    members: list[int]
    wanted: list[int]


@dataclass(frozen=True)
class Plan:
    """All rows of a study: every prompt with every seed under every condition, the conditions of a prompt together.

    Attributes:
        prompts: The prompts.
        seeds: The seeds; prompts with seeds of their own have one row per condition.
        conditions: Settings by name.
        arguments: Settings of all runs; those of a condition come first.
    """

    prompts: Sequence[PromptRow]
    seeds: Sequence[int]
    conditions: Mapping[str, Settings]
    arguments: Settings

    @property
    def has_own_seeds(self) -> bool:
        """Whether each prompt has its own seed."""
        return self.prompts[0].seed is not None

    @property
    def groups(self) -> int:
        """Number of pairs of a prompt and a seed."""
        return len(self.prompts) * (1 if self.has_own_seeds else len(self.seeds))

    @property
    def total(self) -> int:
        """Number of rows."""
        return self.groups * len(self.conditions)

    def task(self, row: int) -> Task:
        """Look up a row.

        Args:
            row: Its number, from 0.

        Returns:
            What to run.
        """
        group, condition = divmod(row, len(self.conditions))
        number, seed = (group, 0) if self.has_own_seeds else divmod(group, len(self.seeds))
        entry = self.prompts[number]
        return Task(
            row, entry, self.seeds[seed] if entry.seed is None else entry.seed, list(self.conditions)[condition]
        )

    def rows(self, shard: tuple[int, int] | None = None) -> Iterator[int]:
        """List the rows of a shard.

        Args:
            shard: (i, n), the part i of n; None for all rows. The conditions of a prompt and seed stay together.

        Returns:
            Their numbers, rising.
        """
        part, parts = shard or (0, 1)
        width = len(self.conditions)
        return (group * width + k for group in range(part, self.groups, parts) for k in range(width))

    def batches(self, rows: Sequence[int], size: int, shard: tuple[int, int] | None = None) -> list[Batch]:
        """Divide rows into batches of equal settings.

        Which rows share a batch depends only on the plan, the size and the shard, not on which rows are missing: a row
        is the same in a study that was interrupted.

        Args:
            rows: Numbers of the rows to make, of the shard.
            size: Largest number of rows of a batch.
            shard: (i, n), the part i of n; None for all rows.

        Returns:
            The batches; rows with interventions, arrays or images are alone.
        """
        if size == 1:
            return [Batch([row], [row]) for row in rows]
        wanted = set(rows)
        part, parts = shard or (0, 1)
        groups, width = range(part, self.groups, parts), len(self.conditions)
        result: list[Batch] = []
        for start in range(0, len(groups), size):
            alike: dict[str, list[int]] = {}
            for condition in range(width):
                for group in groups[start : start + size]:
                    row = group * width + condition
                    alike.setdefault(self._settings_key(row), []).append(row)
            batches = [Batch(members, [row for row in members if row in wanted]) for members in alike.values()]
            result += [batch for batch in batches if batch.wanted]
        return result

    def _settings_key(self, row: int) -> str:
        task = self.task(row)
        try:
            settings = canonical_json(plain_settings(self.run_of(task)[1]))
        except ValueError:  # which the row reports
            return f"row {row}"
        is_plain = '"intervention"' not in settings and '"sha256"' not in settings
        return f"{task.condition} {settings}" if is_plain else f"row {row}"

    def run_of(self, task: Task, condition: str | None = None) -> tuple[str, Settings]:
        """Complete the settings of a row.

        Args:
            task: The row.
            condition: Another condition than its own.

        Returns:
            The prompt and the arguments of `dv.trace`.
        """
        settings = {**self.arguments, **self.conditions[condition or task.condition]}
        return completed(settings, task.entry)


def row_id(task: Task, prompt: str, arguments: Settings, fingerprint: str) -> str:
    """Compute the id of a row.

    Args:
        task: The row.
        prompt: The prompt of its run.
        arguments: The arguments of its run.
        fingerprint: That of the model.

    Returns:
        64 hexadecimal digits: the SHA-256 of the canonical JSON of prompt, seed, condition, settings and fingerprint.
    """
    entry = task.entry.as_json()
    return digest(
        {
            "prompt": prompt,
            "entry": {name: entry[name] for name in ("prompt", "roles", "columns") if entry[name]},
            "seed": task.seed,
            "condition": task.condition,
            "settings": plain_settings(arguments),
            "fingerprint": fingerprint,
        }
    )


def canonical_json(value: Any) -> str:
    """Write a value as JSON, always in the same way.

    Args:
        value: Plain values.

    Returns:
        JSON with sorted keys and without spaces.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """Compute the SHA-256 of a value's canonical JSON.

    Args:
        value: Plain values.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def check_seeds(seeds: Any) -> list[int]:
    """Check the seeds of a study.

    Args:
        seeds: How many (0, 1, ...), or which.

    Returns:
        The seeds.

    Raises:
        TypeError: They are no integers.
        ValueError: There is none, one twice, or one out of range.
    """
    from diffvis_widget.arguments import count, items

    from .prompts import MAX_SEED

    expected = "how many seeds, or a list of seeds such as [0, 1, 2]"
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return list(range(count("seeds", seeds)))
    numbers = [count("seeds", seed, least=0, most=MAX_SEED) for seed in items("seeds", seeds, expected)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds must be {expected}, each once, not {numbers!r}")
    return numbers


def check_shard(shard: Any) -> tuple[int, int] | None:
    """Check a shard.

    Args:
        shard: (i, n), or None.

    Returns:
        The same.

    Raises:
        TypeError: It is no pair of integers.
        ValueError: i is not from 0 to n - 1.
    """
    from diffvis_widget.arguments import shorten, whole_number

    if shard is None:
        return None
    numbers = [whole_number(number) for number in shard] if isinstance(shard, list | tuple) else []
    if len(numbers) != 2 or None in numbers:
        raise TypeError(f"shard must be a pair such as (0, 4), the first of four parts, or None, not {shorten(shard)}")
    part, parts = numbers
    assert part is not None
    assert parts is not None
    if not 0 <= part < parts:
        raise ValueError(f"shard must be (i, n) with i from 0 to n - 1, not {(part, parts)}")
    return part, parts
