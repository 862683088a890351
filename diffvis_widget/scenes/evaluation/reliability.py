"""Measure when to trust the concept meter: `python -m diffvis_widget.scenes.evaluation.reliability`.

It takes about ten minutes on one thread.

Held-out captions are generated, and the predictions scored at several noise levels. Among all shapes, and among all
colours, the word with the highest score is compared with what the final image shows, according to a detector that was
trained on renderings only. Each image gives one answer per level and set, so that the intervals hold. The last two
columns ask about every word of both sets whether a word above the null band is present in the final image, and whether
a word in the band or below is absent.
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
from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes import WEIGHTS, load
from diffvis_widget.scenes.world import COLOURS, SHAPES
from diffvis_widget.tracer import decode, trace

from .captions import GUIDANCE, STEPS, held_out_scenes
from .judge import Verdict, load_judge

SETS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS)}
LEVELS = (10.0, 5.0, 2.5, 1.2, 0.6)  # noise over signal; the first and the last step besides


@dataclass
class Tally:
    """The answers at one noise level.

    Attributes:
        sigmas: Noise over signal of each image.
        best: For each set, whether the word with the highest score is present.
        above: For each word above the null band, whether it is present.
        inside: For each word in the null band or below, whether it is absent.
    """

    sigmas: list[float] = field(default_factory=list)
    best: dict[str, list[bool]] = field(default_factory=lambda: {name: [] for name in SETS})
    above: list[bool] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)


def shown_words(verdict: Verdict) -> dict[str, set[str]]:
    """The words of each set that an image shows.

    Args:
        verdict: The judge's verdict on the image.

    Returns:
        For each set, the words.
    """
    return {name: {str(getattr(detection.thing, name)) for detection in verdict.detections} for name in SETS}


def sampled_steps(sigmas: NDArray[np.float32]) -> list[int]:
    """The steps that are scored: the first, those nearest to the levels by ratio, and the last.

    Args:
        sigmas: Noise over signal of each step.

    Returns:
        Indices of steps.
    """
    near = [int(np.abs(np.log(sigmas / level)).argmin()) for level in LEVELS]
    return [0, *near, len(sigmas) - 1]


def add(
    tallies: Sequence[Tally], sigmas: NDArray[np.float32], cosines: dict[str, NDArray[np.float32]],
    null: NDArray[np.float32], shown: dict[str, set[str]],
) -> None:  # fmt: skip
    """Count one image.

    Args:
        tallies: One per level; they are changed.
        sigmas: Noise over signal, (levels,).
        cosines: For each set, cosines (levels, words).
        null: Null band (levels, 2).
        shown: For each set, the words that the final image shows.
    """
    for level, tally in enumerate(tallies):
        tally.sigmas.append(float(sigmas[level]))
        for name, words in SETS.items():
            cosine = cosines[name][level]
            tally.best[name].append(words[int(cosine.argmax())] in shown[name])
            for word, value in zip(words, cosine, strict=True):
                is_present = word in shown[name]
                if value > null[level, 1]:
                    tally.above.append(is_present)
                else:
                    tally.inside.append(not is_present)


def measure(pipe: StableDiffusionPipeline, count: int) -> tuple[list[Tally], dict[str, float]]:
    """Score the predictions of held-out captions.

    Args:
        pipe: The scenes model.
        count: Number of captions.

    Returns:
        The tallies of all levels; and for each set how often a word drawn at random would be correct.
    """
    meter, judge = ConceptMeter(), load_judge(WEIGHTS / "judge.safetensors")
    tallies = [Tally() for _ in range(len(LEVELS) + 2)]
    chance: dict[str, list[float]] = {name: [] for name in SETS}
    for seed, scene in enumerate(held_out_scenes(count)):
        run = trace(pipe, scene.caption, seed=seed, num_inference_steps=STEPS, guidance_scale=GUIDANCE, keep="words")
        shown = shown_words(judge.detect(run.image[None])[0])
        if not shown["shape"]:
            continue  # the judge detects nothing
        steps = sampled_steps(run.sigmas)
        frames = decode(pipe, run.predictions[steps])
        scores = {name: meter.scores(frames, list(words)) for name, words in SETS.items()}
        null = scores["shape"][1]
        add(tallies, run.sigmas[steps], {name: cosine for name, (cosine, _) in scores.items()}, null, shown)
        for name, words in SETS.items():
            chance[name].append(len(shown[name]) / len(words))
    return tallies, {name: float(np.mean(values)) for name, values in chance.items()}


def cell(answers: Sequence[bool]) -> str:
    """A cell of the table.

    Args:
        answers: The answers.

    Returns:
        The share of correct answers with its interval.
    """
    if not answers:
        return "none"
    low, high = proportion_interval(sum(answers), len(answers))
    return f"{np.mean(answers):.1%} ({low:.1%} to {high:.1%})"


def markdown_table(tallies: Sequence[Tally], chance: dict[str, float]) -> str:
    """The table.

    Args:
        tallies: One per level.
        chance: For each set, how often a word drawn at random is correct.

    Returns:
        Markdown.
    """
    lines = [
        "| noise over signal | highest shape is present | highest colour is present | above the null band: present | "
        "in it or below: absent |",
        "|---|---|---|---|---|",
    ]
    for index, tally in enumerate(tallies):
        level = "first step" if index == 0 else f"{np.mean(tally.sigmas):.2g}"
        cells = [cell(tally.best[name]) for name in SETS]
        cells += [f"{np.mean(value):.1%} of {len(value)}" if value else "none" for value in (tally.above, tally.inside)]
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
    print(markdown_table(tallies, chance))
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
