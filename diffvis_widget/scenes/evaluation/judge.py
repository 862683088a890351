"""The judge of generated scenes: a small detector trained on renderings only, never on generated images.

For each cell of a 12 x 12 grid it predicts whether the centre of an object lies in it, and the object's shape, colour,
texture, size and exact position; and for the whole image the setting.
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
# The classes of each attribute; None where the caption has no word (medium, plain, paper).
CLASSES: dict[str, tuple[str | None, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": (None, *TEXTURES),
    "size": (None, *SIZES),
}
SETTING_CLASSES: tuple[str | None, ...] = (None, *SETTINGS)


@dataclass(frozen=True)
class Detection:
    """A detected object.

    Attributes:
        thing: Its predicted attributes.
        x: Its centre in pixels from the left.
        y: Its centre in pixels from the top.
        confidence: That an object is present, 0..1.
    """

    thing: Thing
    x: float
    y: float
    confidence: float


@dataclass(frozen=True)
class Verdict:
    """All that the judge detects in one image.

    Attributes:
        detections: The objects.
        setting: The setting; None for plain paper.
    """

    detections: tuple[Detection, ...]
    setting: str | None


def _residual(width: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(width), nn.SiLU(),
        nn.Conv2d(width, width, 1), nn.BatchNorm2d(width),
    )  # fmt: skip


class Judge(nn.Module):
    """A convolutional detector.

    Its first blocks work at twice the resolution of the grid, because stripes are 7 pixels apart and a cell is 8 wide.

    Args:
        near: Channels of the blocks at high resolution.
        width: Channels of the other blocks.
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
        """Predict the objects of images.

        Args:
            x: Images (n, 3, 96, 96) in -1..1.

        Returns:
            Grid of answers (n, 3 + classes, 12, 12): presence logit, x and y offset, class logits; and setting
            logits (n, 8).
        """
        x = self.stem(x)
        for block in self.close:
            x = F.silu(x + block(x))
        x = self.step_back(x)
        for block in self.body:
            x = F.silu(x + block(x))
        return self.cells(x), self.setting(x.mean(dim=(2, 3)))

    @torch.no_grad()
    def detect(self, images: NDArray[np.uint8]) -> list[Verdict]:
        """Detect the objects and the setting of images.

        Args:
            images: uint8 (n, 96, 96, 3).

        Returns:
            A verdict per image.
        """
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        cells, settings = self(x)
        presence = cells[:, 0].sigmoid()
        # A centre has the highest presence among its neighbours; near the edge of a cell they share the presence.
        around = 9 * F.avg_pool2d(presence[:, None], 3, 1, 1)[:, 0]
        peaks = (around > 0.5) & (presence == F.max_pool2d(presence[:, None], 3, 1, 1)[:, 0])
        verdicts: list[Verdict] = []
        for i in range(len(images)):
            detections: list[Detection] = []
            for row, column in peaks[i].nonzero().tolist():
                answer = cells[i, :, row, column]
                x_px, y_px = ((column + answer[1]) * CELL).item(), ((row + answer[2]) * CELL).item()
                groups = answer[3:].split([len(names) for names in CLASSES.values()])
                named = {key: CLASSES[key][int(g.argmax())] for key, g in zip(CLASSES, groups, strict=True)}
                thing = Thing(str(named["shape"]), named["colour"], named["size"], named["texture"])
                detections.append(Detection(thing, x_px, y_px, min(float(around[i, row, column]), 1.0)))
            verdicts.append(Verdict(tuple(detections), SETTING_CLASSES[int(settings[i].argmax())]))
        return verdicts


def load_judge(path: Path) -> Judge:
    """Load a judge.

    Args:
        path: A safetensors file.

    Returns:
        The judge, in evaluation mode.
    """
    judge = Judge()
    judge.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
    )
    return judge.eval()


def check(spec: Spec, verdict: Verdict) -> dict[str, list[bool]]:
    """Compare a verdict with the meaning of a caption, item by item.

    The measures are: object: the shape is present. colour: it has its colour. texture, size: it also has its texture or
    size (plain and medium are stated by leaving the word out). relation: both objects are present in their colours and
    arranged as stated. place: the object is where the caption says. setting: as stated, plain paper if nothing is.

    Args:
        spec: The meaning of the caption.
        verdict: The verdict on an image.

    Returns:
        For each measure, one answer per item of the caption.
    """
    answers: dict[str, list[bool]] = {"setting": [verdict.setting == spec.setting]}
    best: list[Detection | None] = []
    for thing, detection in zip(spec.things, _assign(spec.things, verdict.detections), strict=True):
        coloured = detection if detection is not None and _has_colour(thing, detection) else None
        best.append(coloured)
        answers.setdefault("object", []).append(detection is not None)
        answers.setdefault("colour", []).append(coloured is not None)
        answers.setdefault("texture", []).append(coloured is not None and coloured.thing.texture == thing.texture)
        answers.setdefault("size", []).append(coloured is not None and coloured.thing.size == thing.size)
    if spec.relation in ("above", "below", "left", "right"):
        answers["relation"] = [_related(best[0], best[1], spec.relation)]
    if spec.place is not None:
        answers["place"] = [best[0] is not None and _placed(best[0], spec.place)]
    return answers


def _has_colour(thing: Thing, detection: Detection) -> bool:
    return thing.colour is None or detection.thing.colour == thing.colour


def _assign(things: Sequence[Thing], detections: Sequence[Detection]) -> list[Detection | None]:
    """Assigns to each object of a caption a detection of its shape, or None; each detection at most once.

    The assignment uses looks only, never positions, so that "a blue star left of a star" can be wrong. It maximises in
    this order: objects present, correct colours, correct textures and sizes if two objects share a shape, confidence.
    """
    same_shape = len({thing.shape for thing in things}) < len(things)
    candidates = [[None, *(s for s in detections if s.thing.shape == thing.shape)] for thing in things]

    def merit(chosen: Sequence[Detection | None]) -> tuple[int, int, int, float]:
        pairs = [(thing, choice) for thing, choice in zip(things, chosen, strict=True) if choice is not None]
        looks = sum((t.texture == s.thing.texture) + (t.size == s.thing.size) for t, s in pairs if same_shape)
        return len(pairs), sum(_has_colour(t, s) for t, s in pairs), looks, sum(s.confidence for _, s in pairs)

    def are_distinct(chosen: Sequence[Detection | None]) -> bool:
        ids = [id(choice) for choice in chosen if choice is not None]
        return len(ids) == len(set(ids))

    return list(max(filter(are_distinct, product(*candidates)), key=merit))


def _related(first: Detection | None, second: Detection | None, relation: str) -> bool:
    if first is None or second is None:
        return False
    dx, dy = second.x - first.x, second.y - first.y
    along = {"above": dy, "below": -dy, "left": dx, "right": -dx}[relation]
    across = dx if relation in ("above", "below") else dy
    return along > abs(across)


def _placed(sighting: Detection, place: str) -> bool:
    dx, dy = sighting.x - SIZE / 2, sighting.y - SIZE / 2
    if place == "middle":
        return max(abs(dx), abs(dy)) < SIZE / 8
    along = {"left": -dx, "right": dx, "top": -dy, "bottom": dy}[place]
    across = dy if place in ("left", "right") else dx
    return along > SIZE / 12 and along > abs(across)
