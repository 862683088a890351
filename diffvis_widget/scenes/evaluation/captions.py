"""How well the scenes model follows its prompt: `python -m diffvis_widget.scenes.evaluation.captions`.

Captions whose combinations training never drew, 30 steps, guidance 7.5, one picture each, judged by a detector that has
seen renderings only. Beside stand the judge's scores on renderings of the same captions, as they are and after a way
through the autoencoder: what a perfect denoiser would reach.
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
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.scenes import WEIGHTS, draw, load
from diffvis_widget.scenes.render import Scene
from diffvis_widget.tracer import to_pixels

from .judge import Verdict, check, load_judge

STEPS, GUIDANCE = 30, 7.5
BARS = {
    "setting": 0.98,
    "object": 0.97,
    "colour": 0.95,
    "texture": 0.90,
    "size": 0.85,
    "relation": 0.95,
    "place": 0.95,
}
JUDGE_BAR, DECODER_BAR = 0.995, 32.0


def held_out_scenes(count: int) -> list[Scene]:
    """Renderings, with captions, of combinations that training never drew."""
    return [draw(1_000_000 + i, held_out=True) for i in range(count)]


def generate(captions: list[str], batch: int = 50, pipe: StableDiffusionPipeline | None = None) -> NDArray[np.uint8]:
    """One picture of each caption, uint8 (n, 96, 96, 3), by the shipped model where none is given.

    Picture i starts from seed i.
    """
    pipe = pipe or load()
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


@torch.no_grad()
def through_autoencoder(pictures: NDArray[np.uint8], batch: int = 50) -> NDArray[np.uint8]:
    """Pictures, uint8 (n, 96, 96, 3), encoded to the mean of their latents and decoded again."""
    vae = load().vae
    decoded: list[NDArray[np.uint8]] = []
    for start in range(0, len(pictures), batch):
        x = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).float() / 127.5 - 1
        (posterior,) = vae.encode(x, return_dict=False)
        decoded.append(to_pixels(vae.decode(posterior.mean, return_dict=False)[0]))
    return np.concatenate(decoded)


def likeness(pictures: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of pictures, uint8 (n, h, w, 3), to others, mean over them, in dB."""
    error = np.square(pictures.astype(np.float64) - others).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


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


def colours_by_part(scenes: Iterable[Scene], verdicts: Iterable[Verdict]) -> dict[tuple[str, str], tuple[int, int]]:
    """(what is said of a thing or its scene, the word) -> (things there in their colour, things): where it fails."""
    answers: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for scene, verdict in zip(scenes, verdicts, strict=True):
        spec = scene.sketch.spec
        for thing, right in zip(spec.things, check(spec, verdict)["colour"], strict=True):
            for part, word in {**vars(thing), "relation": spec.relation, "setting": spec.setting}.items():
                answers[part, word or "(unsaid)"].append(right)
    return {key: (sum(given), len(given)) for key, given in sorted(answers.items())}


def sheet(pictures: NDArray[np.uint8], columns: int = 10) -> Image.Image:
    """Pictures side by side."""
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return Image.fromarray(np.concatenate([row for row in rows if row.shape[1] == rows[0].shape[1]]))


def main() -> None:
    """Print the table; save a sheet of pictures where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.captions", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="captions")
    parser.add_argument("--sheet", type=Path, help="save the first 100 pictures here, as a PNG")
    parser.add_argument("--by", action="store_true", help="also how often a thing is there in its colour, by word")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count is {args.count}, but a table needs at least 1 caption")
    began = time.monotonic()
    scenes = held_out_scenes(args.count)
    judge = load_judge(WEIGHTS / "judge.safetensors")
    renderings = np.stack([scene.image for scene in scenes])
    trusted = score(scenes, judge.look(renderings))
    decoded = through_autoencoder(renderings)
    seen_in_decoded = judge.look(decoded)
    reachable = score(scenes, seen_in_decoded)
    pictures = generate([scene.caption for scene in scenes])
    verdicts = judge.look(pictures)
    painted = score(scenes, verdicts)
    print(f"{args.count} held-out captions, {STEPS} steps, guidance {GUIDANCE}")
    print("| measure | right | 95 % interval | asked | bar | renderings | renderings through the autoencoder |")
    print("|---|---|---|---|---|---|---|")
    for measure, bar in BARS.items():
        if measure not in painted:  # few captions may ask for no place, say
            continue
        right, total = painted[measure]
        low, high = interval(right, total)
        print(
            f"| {measure} | {right / total:.1%} | {low:.1%} to {high:.1%} | {total} | {bar:.0%} | "
            f"{trusted[measure][0] / total:.1%} | {reachable[measure][0] / total:.1%} |"
        )
    right, total = (sum(column) for column in zip(*trusted.values(), strict=True))
    print(f"judge on renderings: {right / total:.2%} of {total} answers (bar {JUDGE_BAR:.1%})")
    print(f"autoencoder on renderings: {likeness(decoded, renderings):.1f} dB (bar {DECODER_BAR:.0f} dB)")
    print(f"{time.monotonic() - began:.0f} s")
    if args.by:
        print("| said | word | colour right | asked | renderings through the autoencoder |\n|---|---|---|---|---|")
        reachable_by_part = colours_by_part(scenes, seen_in_decoded)
        for (said, word), (right, total) in colours_by_part(scenes, verdicts).items():
            print(
                f"| {said} | {word} | {right / total:.1%} | {total} | {reachable_by_part[said, word][0] / total:.1%} |"
            )
    if args.sheet is not None:
        sheet(pictures[:100]).save(args.sheet)


if __name__ == "__main__":
    main()
