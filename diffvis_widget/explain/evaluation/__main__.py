"""Do the explaining methods find what they should? `python -m diffvis_widget.explain.evaluation`.

Held-out renderings of the scenes world, noised to the level of each step, so that the truth is known at all of them:
the maps of words, the maps of steps with the insertion and deletion games, and the sanity check. What was measured is
kept line by line in a folder, and a run that was interrupted goes on; the table is printed, and made part of the
folder's page.
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
from .json_lines import FOLDER, append, kept
from .measures import ASKED_STEPS, PARTS

SCENES = {"words": 200, "steps": 20, "sanity": 5}
FULL = {"words": 1000, "steps": 200, "sanity": 50}


def units(part: str, scenes: int) -> Iterator[tuple[int, int | None]]:
    """(scene, step) of what is measured at once; the step is None where all are."""
    for scene in range(scenes):
        yield from ((scene, step) for step in ASKED_STEPS) if part == "steps" else ((scene, None),)


def measure(pipe: Any, part: str, scenes: int, folder: Path) -> None:
    """Measure what is missing of a part, and append it to `part`.jsonl in the folder, scene by scene."""
    path = folder / f"{part}.jsonl"
    model = fingerprint(pipe.unet)
    lines = kept(path, model)
    done = {(line["scene"], line["step"]) for line in lines}
    drawn = held_out_scenes(scenes)
    for number, step in units(part, scenes):
        if (number, step) in done:
            continue
        began = time.monotonic()
        rendering = Rendering(pipe, drawn[number], number)
        found = PARTS[part](pipe, rendering, *(() if step is None else (step,)))
        append(path, {"scene": number, "step": step, "model": model, **found})
        print(f"{part}: scene {number + 1} of {scenes}, {time.monotonic() - began:.1f} s", flush=True)


def main() -> None:
    """Measure what is missing, print the tables and write the page."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation", description=__doc__)
    parser.add_argument("--full", action="store_true", help=f"{FULL} scenes instead of {SCENES}")
    for part, scenes in SCENES.items():
        parser.add_argument(f"--{part}", type=int, help=f"scenes for the part {part} ({scenes})", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of results and page ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    torch.manual_seed(0)
    for part, scenes in (FULL if args.full else SCENES).items():
        asked = getattr(args, part)
        measure(pipe, part, scenes if asked is None else asked, args.folder)
    print("\n".join(report.evaluation(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
