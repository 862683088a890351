"""Measures from which distance two runs look different: `python -m benchmarks.divergence_threshold`.

`dv.compare` takes its divergence threshold from here. The pairs are runs of the scenes model that differ only in the
weight of their words, from hardly at all to a lot, so that every distance occurs. Measured for each pair: how much the
finished images differ, and whether a detector names the same things in both.
"""

from __future__ import annotations

import argparse
import itertools

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    pipe, judge = dv.load(), load_judge(WEIGHTS / "judge.safetensors")
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
