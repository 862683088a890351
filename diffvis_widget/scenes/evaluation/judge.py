"""The judge of generated scenes: a small detector trained on renderings only, never on generated pictures.

It names what stands where: for every cell of a 12 x 12 grid, whether a thing's centre is in it, and then its shape,
colour, texture, size and exact place; and, once per picture, the setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from diffvis_widget.scenes.render import SIZE
from diffvis_widget.scenes.world import COLOURS, SETTINGS, SHAPES, SIZES, TEXTURES, Spec, Thing

GRID = 12
CELL = SIZE / GRID
# What the judge tells apart; None is the unsaid value (medium, plain, paper).
CLASSES: dict[str, tuple[str | None, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": (None, *TEXTURES),
    "size": (None, *SIZES),
}
SETTING_CLASSES: tuple[str | None, ...] = (None, *SETTINGS)


@dataclass(frozen=True)
class Sighting:
    """A thing that the judge sees, its centre in pixels, and how sure it is that something is there (0..1)."""

    thing: Thing
    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """All that the judge sees in one picture."""

    sightings: tuple[Sighting, ...]
    setting: str | None


def _residual(width: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(width), nn.SiLU(),
        nn.Conv2d(width, width, 1), nn.BatchNorm2d(width),
    )  # fmt: skip


class Judge(nn.Module):
    """Images (n, 3, 96, 96) in -1..1 to a grid of answers (n, 3 + classes, 12, 12) and setting logits (n, 8).

    It looks twice as close before it looks about: stripes are 7 pixels apart, and a cell is 8 wide.
    """

    def __init__(self, near: int = 48, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.SiLU(),
            nn.Conv2d(24, near, 3, 2, 1), nn.BatchNorm2d(near), nn.SiLU(),
        )  # fmt: skip
        self.close = nn.ModuleList(_residual(near) for _ in range(2))
        self.step_back = nn.Sequential(nn.Conv2d(near, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
        self.body = nn.ModuleList(_residual(width, dilation) for dilation in (1, 2, 1, 2, 1))
        self.cells = nn.Conv2d(width, 3 + sum(map(len, CLASSES.values())), 1)
        self.setting = nn.Linear(width, len(SETTING_CLASSES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        for block in self.close:
            x = F.silu(x + block(x))
        x = self.step_back(x)
        for block in self.body:
            x = F.silu(x + block(x))
        return self.cells(x), self.setting(x.mean(dim=(2, 3)))

    @torch.no_grad()
    def look(self, images: NDArray[np.uint8]) -> list[Verdict]:
        """Judge pictures, uint8 (n, 96, 96, 3)."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        cells, settings = self(x)
        presence = cells[:, 0].sigmoid()
        # A centre is a cell surest among its neighbours; on the edge of cells it shares its presence with them.
        around = 9 * F.avg_pool2d(presence[:, None], 3, 1, 1)[:, 0]
        peaks = (around > 0.5) & (presence == F.max_pool2d(presence[:, None], 3, 1, 1)[:, 0])
        verdicts: list[Verdict] = []
        for i in range(len(images)):
            seen: list[Sighting] = []
            for row, column in peaks[i].nonzero().tolist():
                answer = cells[i, :, row, column]
                x_px, y_px = ((column + answer[1]) * CELL).item(), ((row + answer[2]) * CELL).item()
                groups = answer[3:].split([len(names) for names in CLASSES.values()])
                named = {key: CLASSES[key][int(g.argmax())] for key, g in zip(CLASSES, groups, strict=True)}
                thing = Thing(str(named["shape"]), named["colour"], named["size"], named["texture"])
                seen.append(Sighting(thing, x_px, y_px, min(float(around[i, row, column]), 1.0)))
            verdicts.append(Verdict(tuple(seen), SETTING_CLASSES[int(settings[i].argmax())]))
        return verdicts


def load_judge(path: Path) -> Judge:
    """The judge with its shipped weights."""
    judge = Judge()
    judge.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
    )
    return judge.eval()


def check(spec: Spec, verdict: Verdict) -> dict[str, list[bool]]:
    """What a picture owes its caption, item by item: measure -> one answer for each time the caption asks for it.

    object: the shape is there.  colour: ... in its colour.  texture, size: ... with that texture or size (plain and
    medium are asked for by saying nothing).  relation: both are there, in their colours, and stand as said.
    place: the thing is where it was said to be.  setting: as said, paper where nothing is said.
    """
    answers: dict[str, list[bool]] = {"setting": [verdict.setting == spec.setting]}
    best: list[Sighting | None] = []
    for thing, seen in zip(spec.things, _who_is_who(spec.things, verdict.sightings), strict=True):
        coloured = seen if seen is not None and _coloured(thing, seen) else None
        best.append(coloured)
        answers.setdefault("object", []).append(seen is not None)
        answers.setdefault("colour", []).append(coloured is not None)
        answers.setdefault("texture", []).append(coloured is not None and coloured.thing.texture == thing.texture)
        answers.setdefault("size", []).append(coloured is not None and coloured.thing.size == thing.size)
    if spec.relation in ("above", "below", "left", "right"):
        answers["relation"] = [_related(best[0], best[1], spec.relation)]
    if spec.place is not None:
        answers["place"] = [best[0] is not None and _placed(best[0], spec.place)]
    return answers


def _coloured(thing: Thing, seen: Sighting) -> bool:
    return thing.colour is None or seen.thing.colour == thing.colour


def _who_is_who(things: Sequence[Thing], sightings: Sequence[Sighting]) -> list[Sighting | None]:
    """For each thing of a caption the sighting of its shape that it is, or None; no sighting is two things.

    Told by how they look, never by where they stand, so that "a blue star left of a star" can be wrong: most shapes
    there, then most colours right, then, where two things share a shape, most textures and sizes; what is left of doubt
    goes to the surest.
    """
    same_shape = len({thing.shape for thing in things}) < len(things)
    candidates = [[None, *(s for s in sightings if s.thing.shape == thing.shape)] for thing in things]

    def merit(chosen: Sequence[Sighting | None]) -> tuple[int, int, int, float]:
        pairs = [(thing, seen) for thing, seen in zip(things, chosen, strict=True) if seen is not None]
        looks = sum((t.texture == s.thing.texture) + (t.size == s.thing.size) for t, s in pairs if same_shape)
        return len(pairs), sum(_coloured(t, s) for t, s in pairs), looks, sum(s.confidence for _, s in pairs)

    def apart(chosen: Sequence[Sighting | None]) -> bool:
        seen = [id(s) for s in chosen if s is not None]
        return len(seen) == len(set(seen))

    return list(max(filter(apart, product(*candidates)), key=merit))


def _related(first: Sighting | None, second: Sighting | None, relation: str) -> bool:
    if first is None or second is None:
        return False
    dx, dy = second.x - first.x, second.y - first.y
    along = {"above": dy, "below": -dy, "left": dx, "right": -dx}[relation]
    across = dx if relation in ("above", "below") else dy
    return along > abs(across)


def _placed(sighting: Sighting, place: str) -> bool:
    dx, dy = sighting.x - SIZE / 2, sighting.y - SIZE / 2
    if place == "middle":
        return max(abs(dx), abs(dy)) < SIZE / 8
    along = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}[place]
    across = dy if place in ("left", "right") else dx
    return along > SIZE / 12 and along > abs(across)
