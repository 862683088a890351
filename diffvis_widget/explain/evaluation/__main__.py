"""Evaluates the explain methods against ground truth: `python -m diffvis_widget.explain.evaluation`.

The inputs are held-out renderings of the scenes world, noised to the level of each step, so that their masks are valid
at every step. Three parts are measured: the maps of words; the maps of steps, with the insertion and deletion games;
the sanity check. The measurements are appended to JSON lines in a folder, and an interrupted evaluation resumes there.
The tables are printed and written to the folder's README.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from diffvis_widget.scenes import load
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from diffvis_widget.tracer import fingerprint

from . import report
from .ground_truth import Rendering
from .json_lines import FOLDER, append, resume
from .measures import ASKED_STEPS, PARTS

SCENES = {"words": 200, "steps": 20, "sanity": 5}
FULL = {"words": 1000, "steps": 200, "sanity": 50}


def units(part: str, scenes: int) -> Iterator[tuple[int, int | None]]:
    """List the units that a part is measured in.

    Args:
        part: "words", "steps" or "sanity".
        scenes: Number of scenes.

    Yields:
        (scene, step); the step is None where one measurement covers all steps.
    """
    for scene in range(scenes):
        yield from ((scene, step) for step in ASKED_STEPS) if part == "steps" else ((scene, None),)


def measure(pipe: Any, part: str, scenes: int, folder: Path) -> None:
    """Measure whatever is missing of a part, and append it to `part`.jsonl scene by scene.

    Args:
        pipe: The scenes pipeline.
        part: "words", "steps" or "sanity".
        scenes: Number of scenes.
        folder: Folder of the JSON lines.
    """
    path = folder / f"{part}.jsonl"
    model = fingerprint(pipe.unet)
    lines = resume(path, model)
    done = {(line["scene"], line["step"]) for line in lines}
    held_out = held_out_scenes(scenes)
    for number, step in units(part, scenes):
        if (number, step) in done:
            continue
        began = time.monotonic()
        rendering = Rendering(pipe, held_out[number], number)
        measurements = PARTS[part](pipe, rendering, *(() if step is None else (step,)))
        append(path, {"scene": number, "step": step, "model": model, **measurements})
        print(f"{part}: scene {number + 1} of {scenes}, {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Measure whatever is missing, print the tables and write README.md."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"{FULL} scenes instead of {SCENES}")
    for part, scenes in SCENES.items():
        parser.add_argument(f"--{part}", type=int, help=f"number of scenes of the part {part} ({scenes})", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the results ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    torch.manual_seed(0)
    for part, scenes in (FULL if args.full else SCENES).items():
        number = getattr(args, part)
        measure(pipe, part, scenes if number is None else number, args.folder)
    print("\n".join(report.evaluation(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
