"""When to believe the concept meter: `python -m diffvis_widget.scenes.evaluation.reliability`.

It takes some ten minutes on one thread.

Held-out captions are painted, and half-finished predictions read at several noise levels. Of all shapes, and of all
colours, the meter's highest word is compared with what the finished picture shows, as a detector names it that has
seen renderings only. One answer per picture, level and set, so that the intervals (Wilson) hold. The last two columns
ask every word of both sets: does one above the null band appear in the finished picture, and one in it or below not?
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.scenes import WEIGHTS, load
from diffvis_widget.scenes.world import COLOURS, SHAPES
from diffvis_widget.tracer import decode, trace

from .captions import GUIDANCE, STEPS, held_out_scenes, interval
from .judge import Verdict, load_judge

SETS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS)}
LEVELS = (10.0, 5.0, 2.5, 1.2, 0.6)  # noise over signal; the first and the last step besides


@dataclass
class Tally:
    """Right answers among those given, at one noise level."""

    sigmas: list[float] = field(default_factory=list)
    best: dict[str, list[bool]] = field(default_factory=lambda: {name: [] for name in SETS})
    above: list[bool] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)


def present(verdict: Verdict) -> dict[str, set[str]]:
    """The words of each set that a picture shows."""
    return {name: {str(getattr(seen.thing, name)) for seen in verdict.sightings} for name in SETS}


def steps_read(sigmas: NDArray[np.float32]) -> list[int]:
    """The first step, those nearest to the levels (by ratio), and the last."""
    near = [int(np.abs(np.log(sigmas / level)).argmin()) for level in LEVELS]
    return [0, *near, len(sigmas) - 1]


def add(
    tallies: Sequence[Tally], sigmas: NDArray[np.float32], read: dict[str, NDArray[np.float32]],
    null: NDArray[np.float32], shown: dict[str, set[str]],
) -> None:  # fmt: skip
    """Count one picture. read: set -> cosines (levels, words); null: (levels, 2); shown: what is truly there."""
    for level, tally in enumerate(tallies):
        tally.sigmas.append(float(sigmas[level]))
        for name, words in SETS.items():
            cosine = read[name][level]
            tally.best[name].append(words[int(cosine.argmax())] in shown[name])
            for word, one in zip(words, cosine, strict=True):
                there = word in shown[name]
                if one > null[level, 1]:
                    tally.above.append(there)
                else:
                    tally.inside.append(not there)


def measure(pipe: StableDiffusionPipeline, count: int) -> tuple[list[Tally], dict[str, float]]:
    """The tallies of all levels, and by set how often a word drawn at random would be right."""
    meter, judge = ConceptMeter(), load_judge(WEIGHTS / "judge.safetensors")
    tallies = [Tally() for _ in range(len(LEVELS) + 2)]
    chance: dict[str, list[float]] = {name: [] for name in SETS}
    for seed, scene in enumerate(held_out_scenes(count)):
        run = trace(pipe, scene.caption, seed=seed, num_inference_steps=STEPS, guidance_scale=GUIDANCE, keep="words")
        shown = present(judge.look(run.image[None])[0])
        if not shown["shape"]:
            continue  # the judge sees nothing at all, so nothing is known
        steps = steps_read(run.sigmas)
        frames = decode(pipe, run.predictions[steps])
        scores = {name: meter.scores(frames, list(words)) for name, words in SETS.items()}
        null = scores["shape"][1]
        add(tallies, run.sigmas[steps], {name: cosine for name, (cosine, _) in scores.items()}, null, shown)
        for name, words in SETS.items():
            chance[name].append(len(shown[name]) / len(words))
    return tallies, {name: float(np.mean(values)) for name, values in chance.items()}


def cell(answers: Sequence[bool]) -> str:
    """Share of right answers with its interval."""
    if not answers:
        return "none"
    low, high = interval(sum(answers), len(answers))
    return f"{np.mean(answers):.1%} ({low:.1%} to {high:.1%})"


def table(tallies: Sequence[Tally], chance: dict[str, float]) -> str:
    """Markdown."""
    lines = [
        "| noise over signal | highest shape is there | highest colour is there | above the null band: there | "
        "in it or below: not there |",
        "|---|---|---|---|---|",
    ]
    for index, tally in enumerate(tallies):
        level = "first step" if index == 0 else f"{np.mean(tally.sigmas):.2g}"
        cells = [cell(tally.best[name]) for name in SETS]
        cells += [f"{np.mean(one):.1%} of {len(one)}" if one else "none" for one in (tally.above, tally.inside)]
        lines.append(f"| {level} | {' | '.join(cells)} |")
    lines.append(f"| drawn at random | {' | '.join(f'{chance[name]:.1%}' for name in SETS)} | | |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.reliability", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="captions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    tallies, chance = measure(load(), args.count)
    print(f"{len(tallies[0].sigmas)} of {args.count} held-out captions, {STEPS} steps, guidance {GUIDANCE}")
    print(table(tallies, chance))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
