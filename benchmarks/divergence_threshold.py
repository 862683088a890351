"""Measures from which distance two runs look different: `python -m benchmarks.divergence_threshold`.

`dv.compare` takes its divergence threshold from here: half of the distance of runs that differ in their seed alone
(`--seeds` measures only that). The other pairs are runs of the scenes model that differ only in the weight of their
words, from hardly at all to a lot, so that every distance occurs. Measured for each of these: how much the finished
images differ, and whether a detector names the same things in both.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
import torch

import diffvis_widget as dv
from diffvis_widget.scenes import WEIGHTS, draw
from diffvis_widget.scenes.evaluation.judge import Verdict, load_judge

FACTORS = (1.02, 1.06, 1.15, 1.4, 2.0, 4.0)
EDGES = (0.0, 0.05, 0.1, 0.2, 0.5, 10.0)


def named(verdict: Verdict) -> tuple[str | None, list[str]]:
    """What the detector names, regardless of positions."""
    return verdict.setting, sorted(str(detection.thing) for detection in verdict.detections)


def two_seeds(pipe: Any, prompts: int) -> str:
    """The distance of the final latents of two seeds of one prompt, in a sentence."""
    distances: list[float] = []
    for number in range(prompts):
        prompt = draw(3_000_000 + number).caption
        first, second = (dv.trace(pipe, prompt, seed=2 * number + at, num_inference_steps=12) for at in (0, 1))
        distances.append(float(dv.compare(first, second).distance[-1]))
    return f"Two seeds, {prompts} prompts: {np.mean(distances):.2f} ({min(distances):.2f} to {max(distances):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=10)
    parser.add_argument("--seeds", action="store_true", help="measure the distance of two seeds only")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    pipe, judge = dv.load(), load_judge(WEIGHTS / "judge.safetensors")
    print(two_seeds(pipe, chosen.prompts))
    if chosen.seeds:
        return
    rows: list[tuple[float, float, bool]] = []
    for seed in range(chosen.prompts):
        prompt = draw(3_000_000 + seed).caption
        plain = dv.trace(pipe, prompt, seed=seed, num_inference_steps=12)
        words = [index for index, word in enumerate(plain.words) if word.kind == "word"]
        for factor in FACTORS:
            change = [dv.intervene.weight([*words], factor)]
            changed = dv.trace(pipe, prompt, seed=seed, num_inference_steps=12, interventions=change)
            comparison = dv.compare(plain, changed)
            first, second = judge.detect(np.stack([plain.image, changed.image]))
            assert comparison.image_difference is not None
            rows.append(
                (float(comparison.distance[-1]), 255 * comparison.image_difference, named(first) == named(second))
            )
    table = np.array(rows, dtype=np.float64)
    print("| distance of the final latents | pairs | levels of 255 apart, mean (most) | detector names the same |")
    print("|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        part = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        if len(part):
            apart = f"{part[:, 1].mean():.1f} ({part[:, 1].max():.1f})"
            print(f"| {low:g} to {high:g} | {len(part)} | {apart} | {part[:, 2].sum():.0f} |")


if __name__ == "__main__":
    main()
