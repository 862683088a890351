"""The paper's two findings on the scenes world: `python -m diffvis_widget.explain.evaluation.roles`.

Which roles of words does the model attend to under uniform, early and late sampling, and does it decide on semantics
before detail? Relevance of every word of held-out captions with two things, a relation and a setting, under each
sampling scheme; and, for the picture, when its coarse and its fine half are settled. What was measured is kept line by
line in a folder, a run that was interrupted goes on, and the table becomes part of the folder's page.
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
from .json_lines import FOLDER, Line, append, kept

SCHEDULES: tuple[ScheduleKind, ...] = ("uniform", "early", "late")
ROLES = ("object", "colour", "relation", "setting", "texture", "size")
STEPS, STRENGTH, CAPTIONS = 30, 60, 100
_CELL = 12  # pixels along a side of what counts as coarse


def captions(count: int) -> list[Scene]:
    """Held-out scenes of two things in colours that are said, with a relation in space and a setting."""
    found: list[Scene] = []
    seed = 3_000_000
    while len(found) < count:
        scene = draw(seed, held_out=True)
        spec = scene.sketch.spec
        told = spec.relation not in (None, "and") and spec.setting is not None
        if told and all(thing.colour for thing in spec.things):
            found.append(scene)
        seed += 1
    return found


def roles_of(scene: Scene) -> dict[int, str]:
    """Index in `trace.words` -> role, of the caption's words that have one."""
    words = scene.caption.split(" ")
    # captions hold nothing but words and single spaces; the first word of a trace begins the text
    found = {scene.caption[: mention.start].count(" ") + 1: mention.role for mention in scene.mentions}
    relation = scene.sketch.spec.relation
    assert relation is not None
    carriers = {phrase.split()[-2] if phrase.endswith(" of") else phrase for phrase in RELATIONS[relation]}
    return found | {index + 1: "relation" for index, word in enumerate(words) if word in carriers}


def measure(pipe: Any, scene: Scene, seed: int) -> Line:
    """Curves of each role under each scheme, and how settled the halves of the picture are at each uniform step."""
    roles = roles_of(scene)
    curves: dict[str, dict[str, list[float]]] = {}
    settled: Line = {}
    for schedule in SCHEDULES:
        found = relevance(
            pipe,
            scene.caption,
            seed=seed,
            num_inference_steps=STEPS,
            schedule=schedule,
            schedule_strength=STRENGTH,
            progress=False,
        )
        by_name = zip(ROLES, by_role(found, roles, ROLES), strict=True)
        curves[schedule] = {name: np.round(curve, 3).tolist() for name, curve in by_name if np.isfinite(curve).all()}
        if schedule == "uniform":
            settled = {name: np.round(part, 3).tolist() for name, part in halves(found.trace).items()}
    return {"caption": scene.caption, "curves": curves, "settled": settled}


def halves(trace: Trace) -> dict[str, NDArray[np.float64]]:
    """How much of the last prediction each one has, float64 (T,), 1 is all: of its "coarse" half and of its "fine" one.

    Coarse: means over squares of 12 x 12 pixels; fine: what they leave. 1 - squared error over the half's variance.
    """
    frames = trace.frames("prediction").astype(np.float64)
    count, height, width, channels = frames.shape
    squares = frames.reshape(count, height // _CELL, _CELL, width // _CELL, _CELL, channels)
    coarse = np.broadcast_to(squares.mean(axis=(2, 4), keepdims=True), squares.shape).reshape(frames.shape)
    return {"coarse": _settled(coarse), "fine": _settled(frames - coarse)}


def _settled(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    last = frames[-1]
    errors = np.square(frames - last).mean(axis=(1, 2, 3))
    return 1 - errors / np.square(last - last.mean(axis=(0, 1))).mean()


def main() -> None:
    """Measure what is missing, print the tables and write the page."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation.roles", description=__doc__)
    parser.add_argument("--captions", type=int, default=CAPTIONS, help=f"how many ({CAPTIONS})", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of results and page ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    torch.manual_seed(0)
    path, model = args.folder / "roles.jsonl", fingerprint(cast(Any, pipe).unet)
    lines = kept(path, model)
    for seed, scene in list(enumerate(captions(args.captions)))[len(lines) :]:
        began = time.monotonic()
        append(path, {"seed": seed, "model": model, **measure(pipe, scene, seed)})
        print(f"roles: caption {seed + 1} of {args.captions}, {time.monotonic() - began:.1f} s", flush=True)
    print("\n".join(report.roles(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
