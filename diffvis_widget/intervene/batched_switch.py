"""Many runs in one batch that differ only in the step at which another prompt takes over.

Until a run is switched it is the unswitched run: the denoiser is asked about all those rows once, and its answer is
handed to each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.guided_denoiser import pick_argument_rows, pick_rows

from .interventions import Switch


@dataclass(frozen=True)
class Fork(Switch):
    """In a call for len(points) images, image i goes on with `prompt` at step points[i]; step: the first of them."""

    points: tuple[int, ...]


def fork(prompt: str, points: Sequence[int]) -> Fork:
    """All images must start from the same noise: a generator of the same seed each."""
    return Fork(prompt, min(points), tuple(points))


class Narrowing:
    """Which rows of a batch are asked, and where each row's answer is then found."""

    def __init__(self, batch: int, points: Sequence[int], step: int) -> None:
        images = len(points)
        waiting = [image for image, point in enumerate(points) if point > step]
        standing = {image: waiting[0] if point > step else image for image, point in enumerate(points)}
        kept = sorted(set(standing.values()))
        self.waiting = waiting
        self.batch = batch
        self.rows = [block * images + image for block in range(batch // images) for image in kept]
        place = {row: index for index, row in enumerate(self.rows)}
        self.answers = [
            place[block * images + standing[image]] for block in range(batch // images) for image in standing
        ]

    def narrow(self, arguments: Mapping[str, Any], family: Family) -> dict[str, Any]:
        """The denoiser's arguments for the rows that are asked."""
        index = torch.tensor(self.rows)
        return {name: pick_argument_rows(name, value, index, self.batch, family) for name, value in arguments.items()}

    def widen(self, output: Any) -> Any:
        """The denoiser's output for all rows."""
        index = torch.tensor(self.answers)
        if isinstance(output, Mapping):  # a ModelOutput, which must stay one
            return type(output)(**{name: pick_rows(one, index, len(self.rows)) for name, one in output.items()})
        return pick_rows(output, index, len(self.rows))


def narrowing(latents: Any, batch: int, points: Sequence[int], step: int) -> Narrowing | None:
    """None where there is nothing to spare, or where rows that should be one and the same are not.

    latents: as the denoiser is given them. A scheduler that draws noise without the pipeline's generators makes them
    differ.
    """
    found = Narrowing(batch, points, step) if batch % len(points) == 0 else None
    if found is None or len(found.rows) == batch:
        return None
    rows = [latents[image] for image in found.waiting]
    same = all(isinstance(row, Tensor) and torch.equal(row, rows[0]) for row in rows)
    return found if same else None
