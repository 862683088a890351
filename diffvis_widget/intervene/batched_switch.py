"""Many runs in one batch that differ only in the step at which another prompt comes into force.

Until its switch a run equals the run without a switch. The denoiser evaluates one row for all runs that are still
equal, and the output is copied to each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer import Family, pick_argument_rows, pick_rows

from .interventions import Switch


@dataclass(frozen=True)
class Fork(Switch):
    """Switches the prompt of each image of a call at its own step.

    Attributes:
        points: Of each image, the first step with the other prompt.
    """

    points: tuple[int, ...]


def fork(prompt: str, points: Sequence[int]) -> Fork:
    """Switch the prompt of each image at its own step.

    Args:
        prompt: The other prompt.
        points: Of each image, the first step with it. All images must start from the same noise: a generator of the
            same seed each.

    Returns:
        The intervention.
    """
    return Fork(prompt, min(points), tuple(points))


class Narrowing:
    """Which rows of a batch are evaluated, and which of them each row's output is copied from.

    Args:
        batch: Rows of the batch, a multiple of the number of images.
        points: Of each image, the step of its switch.
        step: Index of the step.

    Attributes:
        waiting: The images that are not switched yet.
        batch: As given.
        rows: The rows that are evaluated.
        sources: Of each row of the batch, the index into `rows` of its output.
    """

    waiting: list[int]
    batch: int
    rows: list[int]
    sources: list[int]

    def __init__(self, batch: int, points: Sequence[int], step: int) -> None:
        images = len(points)
        waiting = [image for image, point in enumerate(points) if point > step]
        representative = {image: waiting[0] if point > step else image for image, point in enumerate(points)}
        evaluated = sorted(set(representative.values()))
        self.waiting = waiting
        self.batch = batch
        self.rows = [block * images + image for block in range(batch // images) for image in evaluated]
        position = {row: index for index, row in enumerate(self.rows)}
        self.sources = [
            position[block * images + representative[image]]
            for block in range(batch // images)
            for image in representative
        ]

    def narrow(self, arguments: Mapping[str, Any], family: Family) -> dict[str, Any]:
        """Select the rows that are evaluated.

        Args:
            arguments: Of the denoiser, by name.
            family: The denoiser's family.

        Returns:
            The arguments for `rows`.
        """
        index = torch.tensor(self.rows)
        return {name: pick_argument_rows(name, value, index, self.batch, family) for name, value in arguments.items()}

    def widen(self, output: Any) -> Any:
        """Copy the output of the rows that were evaluated to all rows.

        Args:
            output: Of the denoiser, for `rows`.

        Returns:
            The output for the whole batch.
        """
        index = torch.tensor(self.sources)
        if isinstance(output, Mapping):  # a ModelOutput, which must stay one
            return type(output)(**{name: pick_rows(value, index, len(self.rows)) for name, value in output.items()})
        return pick_rows(output, index, len(self.rows))


def narrowing(latents: Any, batch: int, points: Sequence[int], step: int) -> Narrowing | None:
    """Leave out the rows of a batch that are equal to others.

    Args:
        latents: As the denoiser receives them, one row per row of the batch.
        batch: Rows of the batch.
        points: Of each image, the step of its switch.
        step: Index of the step.

    Returns:
        The rows to evaluate; None where no row can be left out, or where rows that should be equal are not. A scheduler
        that draws noise without the pipeline's generators makes them differ.
    """
    narrowed = Narrowing(batch, points, step) if batch % len(points) == 0 else None
    if narrowed is None or len(narrowed.rows) == batch:
        return None
    rows = [latents[image] for image in narrowed.waiting]
    return narrowed if all(_are_equal(row, rows[0]) for row in rows) else None


def _are_equal(row: Any, other: Any) -> bool:
    if isinstance(row, list) and isinstance(other, list):  # an image among its references
        parts = zip(row, other, strict=True)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return all(_are_equal(part, counterpart) for part, counterpart in parts)
    return isinstance(row, Tensor) and torch.equal(row, other)
