"""Captions whose words have roles, and when an image settles: what `python -m benchmarks.relevance_by_role` measures.

Which roles of words does the model attend to under uniform, early and late sampling, and does it decide on semantics
before detail? The benchmark is a study of the relevance of every word of these captions; its table becomes part of
benchmarks/explain/README.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.scenes import Scene, draw
from diffvis_widget.scenes.world import RELATIONS
from diffvis_widget.schedule import ScheduleKind
from diffvis_widget.traces import Trace

SCHEDULES: tuple[ScheduleKind, ...] = ("uniform", "early", "late")
ROLES = ("object", "colour", "relation", "setting", "texture", "size")
STEPS, STRENGTH, CAPTIONS = 30, 60, 100
_CELL = 12  # side in pixels of the cells of the coarse component


def captions(count: int) -> list[Scene]:
    """Draw held-out scenes with two objects of stated colours, a spatial relation and a setting.

    Args:
        count: Number of scenes.

    Returns:
        The scenes.
    """
    scenes: list[Scene] = []
    seed = 3_000_000
    while len(scenes) < count:
        scene = draw(seed, held_out=True)
        spec = scene.sketch.spec
        complete = spec.relation not in (None, "and") and spec.setting is not None
        if complete and all(thing.colour for thing in spec.things):
            scenes.append(scene)
        seed += 1
    return scenes


def roles_of(scene: Scene) -> dict[int, str]:
    """Find the roles of a caption's words.

    Args:
        scene: The scene.

    Returns:
        Role by index in `trace.words`; words without a role are left out.
    """
    words = scene.caption.split(" ")
    # captions consist of words and single spaces; the first word of a trace is the start token
    roles = {scene.caption[: mention.start].count(" ") + 1: mention.role for mention in scene.mentions}
    relation = scene.sketch.spec.relation
    assert relation is not None
    carriers = {phrase.split()[-2] if phrase.endswith(" of") else phrase for phrase in RELATIONS[relation]}
    return roles | {index + 1: "relation" for index, word in enumerate(words) if word in carriers}


def halves(trace: Trace) -> dict[str, NDArray[np.float64]]:
    """Measure how much of the last prediction's coarse and fine component each step's prediction has.

    The coarse component is the mean over cells of 12 x 12 pixels, the fine one the rest. The measure is
    1 - squared error / variance of the component.

    Args:
        trace: The run.

    Returns:
        float64 (T,) by component, "coarse" and "fine"; 1 is complete.
    """
    frames = trace.frames("prediction").astype(np.float64)
    count, height, width, channels = frames.shape
    cells = frames.reshape(count, height // _CELL, _CELL, width // _CELL, _CELL, channels)
    coarse = np.broadcast_to(cells.mean(axis=(2, 4), keepdims=True), cells.shape).reshape(frames.shape)
    return {"coarse": _settled(coarse), "fine": _settled(frames - coarse)}


def _settled(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    last = frames[-1]
    errors = np.square(frames - last).mean(axis=(1, 2, 3))
    return 1 - errors / np.square(last - last.mean(axis=(0, 1))).mean()
