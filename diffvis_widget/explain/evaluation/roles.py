"""Tests two findings of the paper on the scenes world: `python -m diffvis_widget.explain.evaluation.roles`.

Which roles of words does the model attend to under uniform, early and late sampling, and does it decide on semantics
before detail? Measured are the relevance of every word of held-out captions (two objects, a relation, a setting) under
each sampling scheme, and when the coarse and the fine component of the image settle. The measurements are appended to
JSON lines in a folder, an interrupted evaluation resumes there, and the table becomes part of the folder's README.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from diffvis_widget.explain.role_relevance import by_role
from diffvis_widget.explain.word_relevance import relevance
from diffvis_widget.scenes import Scene, draw, load
from diffvis_widget.scenes.world import RELATIONS
from diffvis_widget.schedule import ScheduleKind
from diffvis_widget.tracer import fingerprint
from diffvis_widget.traces import Trace

from . import report
from .json_lines import FOLDER, Line, append, resume

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


def measure(pipe: Any, scene: Scene, seed: int) -> Line:
    """Measure the relevance of each role under each scheme, and how the image settles.

    Args:
        pipe: The scenes pipeline.
        scene: The scene.
        seed: Seed of the run.

    Returns:
        caption; curves, by scheme and role one value a step; settled, by component one value a uniform step.
    """
    roles = roles_of(scene)
    curves: dict[str, dict[str, list[float]]] = {}
    settled: Line = {}
    for schedule in SCHEDULES:
        word_relevance = relevance(
            pipe,
            scene.caption,
            seed=seed,
            num_inference_steps=STEPS,
            schedule=schedule,
            schedule_strength=STRENGTH,
            progress=False,
        )
        by_name = zip(ROLES, by_role(word_relevance, roles, ROLES), strict=True)
        curves[schedule] = {name: np.round(curve, 3).tolist() for name, curve in by_name if np.isfinite(curve).all()}
        if schedule == "uniform":
            settled = {name: np.round(part, 3).tolist() for name, part in halves(word_relevance.trace).items()}
    return {"caption": scene.caption, "curves": curves, "settled": settled}


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


def main() -> None:
    """Measure whatever is missing, print the tables and write README.md."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation.roles", description=__doc__)
    parser.add_argument("--captions", type=int, default=CAPTIONS, help=f"number of captions ({CAPTIONS})", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the results ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    torch.manual_seed(0)
    path, model = args.folder / "roles.jsonl", fingerprint(cast(Any, pipe).unet)
    lines = resume(path, model)
    for seed, scene in list(enumerate(captions(args.captions)))[len(lines) :]:
        began = time.monotonic()
        append(path, {"seed": seed, "model": model, **measure(pipe, scene, seed)})
        print(f"roles: caption {seed + 1} of {args.captions}, {time.monotonic() - began:.1f} s", flush=True)
    print("\n".join(report.roles(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
