"""A differentiable measure of what an image lacks of its caption, for the last stage of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget.scenes.evaluation.judge import CELL, CLASSES, GRID, SETTING_CLASSES
from diffvis_widget.scenes.render import SIZE
from diffvis_widget.scenes.world import Spec, Thing

# Weights of the attributes: a wrong texture matters less than another object.
_WEIGHTS = {"shape": 1.0, "colour": 1.0, "texture": 0.5, "size": 0.5}
_SETTING_WEIGHT = 0.5
# The logarithm of a probability of 99 %, from which on nothing is missing.
_SURE = -0.01
# The presences of an object add up to about 1; a sum that exceeds the number of objects by more than this is penalised.
_SPARE = 0.25
_IMPOSSIBLE = -60.0


def missing_content_loss(cells: Tensor, settings: Tensor, specs: Sequence[Spec]) -> Tensor:
    """How far the predictions of a detector are from the captions: one number >= 0 per image, 0 for a match.

    It is minus the logarithm of the probability, by these predictions, that some cell contains the one object, or some
    pair of cells in the stated relation the two, and that the setting is as stated; plus the number of surplus objects.

    Args:
        cells: Predictions of a detector, (n, 3 + classes, 12, 12).
        settings: Setting logits, (n, 8).
        specs: n meanings.

    Returns:
        (n,).
    """
    presence = cells[:, 0].flatten(1)
    groups = cells[:, 3:].split([len(names) for names in CLASSES.values()], dim=1)
    # attribute -> (n, classes, 144)
    answers = {key: group.log_softmax(1).flatten(2) for key, group in zip(CLASSES, groups, strict=True)}
    losses: list[Tensor] = []
    for i, spec in enumerate(specs):
        answers_of_image = {key: answer[i] for key, answer in answers.items()}
        scores = [F.logsigmoid(presence[i]) + _fit(thing, answers_of_image) for thing in spec.things]
        x, y = _centres(cells[i])
        if spec.relation is not None:
            first, second = scores
            allowed = _in_relation(x[None] - x[:, None], y[None] - y[:, None], spec.relation)
            scores_of_arrangements = first[:, None] + second[None]
        else:
            (scores_of_arrangements,) = scores
            allowed = _at_place(x - SIZE / 2, y - SIZE / 2, spec.place)
        log_probability = (
            scores_of_arrangements.masked_fill(~allowed, _IMPOSSIBLE).flatten().logsumexp(0).clamp(max=_SURE)
        )
        surplus = F.relu(presence[i].sigmoid().sum() - len(scores) - _SPARE)
        setting = settings[i].log_softmax(0)[SETTING_CLASSES.index(spec.setting)]
        losses.append(surplus - (log_probability - _SURE) - _SETTING_WEIGHT * setting)
    return torch.stack(losses)


def _fit(thing: Thing, answers: dict[str, Tensor]) -> Tensor:
    """Logarithm of the probability that each cell contains an object like this, (144,)."""
    stated = {key: getattr(thing, key) for key in CLASSES if key != "colour" or thing.colour is not None}
    return torch.stack([_WEIGHTS[key] * answers[key][CLASSES[key].index(value)] for key, value in stated.items()]).sum(
        0
    )


def _centres(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The centre that an object in each cell would have, in pixels, (144,) each; detached from the graph."""
    offsets = cells[1:3].detach()
    index = torch.arange(GRID, device=cells.device)
    return ((offsets[0] + index) * CELL).flatten(), ((offsets[1] + index[:, None]) * CELL).flatten()


def _in_relation(dx: Tensor, dy: Tensor, relation: str) -> Tensor:
    """Which steps from the first object to the second, in pixels, a relation allows, with a pixel to spare."""
    if relation == "and":
        return dx.abs() + dy.abs() > 2 * CELL
    along = {"above": dy, "below": -dy, "left": dx, "right": -dx}[relation]
    return along > (dx if relation in ("above", "below") else dy).abs() + 1


def _at_place(x: Tensor, y: Tensor, place: str | None) -> Tensor:
    """Which centres, in pixels from the middle, a place allows, with a pixel to spare."""
    if place is None:
        return torch.ones_like(x, dtype=torch.bool)
    if place == "middle":
        return torch.maximum(x.abs(), y.abs()) < SIZE / 8 - 1
    along = {"left": -x, "right": x, "top": -y, "bottom": y}[place]
    return along > (y if place in ("left", "right") else x).abs().clamp(min=SIZE / 12) + 1
