"""What a picture lacks of its caption, as a number that can be followed down: for the denoiser's last stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget.scenes.evaluation.judge import CELL, CLASSES, GRID, SETTING_CLASSES
from diffvis_widget.scenes.render import SIZE
from diffvis_widget.scenes.world import Spec, Thing

# What each attribute counts: a wrong texture is a lesser fault than another thing.
_COUNTED = {"shape": 1.0, "colour": 1.0, "texture": 0.5, "size": 0.5}
_SETTING_COUNTED = 0.5
# Sure enough: from a chance of 99 % on, nothing is left to wish.
_SURE = -0.01
# A detector's presences of one thing add up to about 1; what is this much more than what was asked for is too many.
_SPARE = 0.25
_IMPOSSIBLE = -60.0


def wishes(cells: Tensor, settings: Tensor, specs: Sequence[Spec]) -> Tensor:
    """How far a detector is from seeing what captions say, one number >= 0 for each picture, 0 for all is there.

    cells: (n, 3 + classes, 12, 12), settings: (n, 8), a detector's answers.  specs: n meanings.
    It is minus the logarithm of the chance, by these answers, that some cell holds the one thing, or some pair of cells
    that stand as said the two, and the setting is as said; and how many things there are too many.
    """
    presence = cells[:, 0].flatten(1)
    groups = cells[:, 3:].split([len(names) for names in CLASSES.values()], dim=1)
    # attribute -> (n, classes, 144)
    answers = {key: group.log_softmax(1).flatten(2) for key, group in zip(CLASSES, groups, strict=True)}
    found: list[Tensor] = []
    for i, spec in enumerate(specs):
        here = {key: answer[i] for key, answer in answers.items()}
        scores = [F.logsigmoid(presence[i]) + _fit(thing, here) for thing in spec.things]
        x, y = _centres(cells[i])
        if spec.relation is not None:
            first, second = scores
            allowed = _stand_as_said(x[None] - x[:, None], y[None] - y[:, None], spec.relation)
            ways = first[:, None] + second[None]
        else:
            (ways,) = scores
            allowed = _is_where_said(x - SIZE / 2, y - SIZE / 2, spec.place)
        chance = ways.masked_fill(~allowed, _IMPOSSIBLE).flatten().logsumexp(0).clamp(max=_SURE)
        too_many = F.relu(presence[i].sigmoid().sum() - len(scores) - _SPARE)
        setting = settings[i].log_softmax(0)[SETTING_CLASSES.index(spec.setting)]
        found.append(too_many - (chance - _SURE) - _SETTING_COUNTED * setting)
    return torch.stack(found)


def _fit(thing: Thing, answers: dict[str, Tensor]) -> Tensor:
    """Logarithm of the chance that a thing is what stands in each cell, (144,)."""
    said = {key: getattr(thing, key) for key in CLASSES if key != "colour" or thing.colour is not None}
    return torch.stack([_COUNTED[key] * answers[key][CLASSES[key].index(value)] for key, value in said.items()]).sum(0)


def _centres(cells: Tensor) -> tuple[Tensor, Tensor]:
    """Where a thing in each cell would have its centre, in pixels, (144,) each; held, for cells decide, not offsets."""
    offsets = cells[1:3].detach()
    index = torch.arange(GRID, device=cells.device)
    return ((offsets[0] + index) * CELL).flatten(), ((offsets[1] + index[:, None]) * CELL).flatten()


def _stand_as_said(dx: Tensor, dy: Tensor, relation: str) -> Tensor:
    """Which steps from a first thing to a second, in pixels, a relation allows, with a pixel to spare."""
    if relation == "and":
        return dx.abs() + dy.abs() > 2 * CELL
    along = {"above": dy, "below": -dy, "left": dx, "right": -dx}[relation]
    return along > (dx if relation in ("above", "below") else dy).abs() + 1


def _is_where_said(x: Tensor, y: Tensor, place: str | None) -> Tensor:
    """Which centres, in pixels from the middle, a place allows, with a pixel to spare."""
    if place is None:
        return torch.ones_like(x, dtype=torch.bool)
    if place == "middle":
        return torch.maximum(x.abs(), y.abs()) < SIZE / 8 - 1
    along = {"left": -x, "right": x, "top": -y, "bottom": y}[place]
    return along > (y if place in ("left", "right") else x).abs().clamp(min=SIZE / 12) + 1
