"""How well the scenes model follows its prompt: `python -m diffvis_widget.scenes.evaluate`.

Captions whose combinations training never drew, 30 steps, guidance 7.5, one picture each, judged by a detector that has
seen renderings only. The judge's own score on held-out renderings of the same captions stands beside.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.scenes import WEIGHTS, draw, load
from diffvis_widget.scenes.judge import Verdict, check, load_judge
from diffvis_widget.scenes.render import Scene

STEPS, GUIDANCE = 30, 7.5
# Bars of the first model; None: reported as it comes.
BARS: dict[str, float | None] = {
    "setting": 0.90,
    "object": None,
    "colour": 0.75,
    "texture": None,
    "size": None,
    "relation": None,
    "place": None,
}


def held_out_scenes(count: int) -> list[Scene]:
    """Renderings, with captions, of combinations that training never drew."""
    return [draw(1_000_000 + i, held_out=True) for i in range(count)]


def generate(captions: list[str], batch: int = 50) -> NDArray[np.uint8]:
    """One picture of each caption, uint8 (n, 96, 96, 3); picture i starts from seed i."""
    pipe = load()
    pictures: list[NDArray[np.uint8]] = []
    for start in range(0, len(captions), batch):
        part = captions[start : start + batch]
        seeds = [torch.Generator().manual_seed(start + i) for i in range(len(part))]
        (images, _) = pipe(
            part,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=seeds,
            output_type="np",
            return_dict=False,
        )
        pictures.append(np.rint(np.asarray(images) * 255).astype(np.uint8))
    return np.concatenate(pictures)


def interval(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return centre - half, centre + half


def score(scenes: Iterable[Scene], verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """Measure -> (right answers, questions asked)."""
    answers: dict[str, list[bool]] = defaultdict(list)
    for scene, verdict in zip(scenes, verdicts, strict=True):
        for measure, given in check(scene.sketch.spec, verdict).items():
            answers[measure] += given
    return {measure: (sum(given), len(given)) for measure, given in answers.items()}


def sheet(pictures: NDArray[np.uint8], columns: int = 10) -> Image.Image:
    """Pictures side by side."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return Image.fromarray(np.concatenate([row for row in rows if row.shape[1] == rows[0].shape[1]]))


def main() -> None:
    """Print the table; save a sheet of pictures where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluate", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="captions")
    parser.add_argument("--sheet", type=Path, help="save the first 100 pictures here, as a PNG")
    args = parser.parse_args()
    began = time.monotonic()
    scenes = held_out_scenes(args.count)
    judge = load_judge(WEIGHTS / "judge.safetensors")
    trusted = score(scenes, judge.look(np.stack([scene.image for scene in scenes])))
    pictures = generate([scene.caption for scene in scenes])
    painted = score(scenes, judge.look(pictures))
    print(f"{args.count} held-out captions, {STEPS} steps, guidance {GUIDANCE}")
    print("| measure | right | 95 % interval | asked | bar | judge on renderings |")
    print("|---|---|---|---|---|---|")
    for measure, bar in BARS.items():
        right, total = painted[measure]
        low, high = interval(right, total)
        own, asked = trusted[measure]
        print(
            f"| {measure} | {right / total:.1%} | {low:.1%} to {high:.1%} | {total} | "
            f"{'' if bar is None else format(bar, '.0%')} | {own / asked:.1%} |"
        )
    print(f"{time.monotonic() - began:.0f} s")
    if args.sheet is not None:
        sheet(pictures[:100]).save(args.sheet)


if __name__ == "__main__":
    main()
