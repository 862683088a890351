"""Measure how well the scenes model follows its prompt: `python -m diffvis_widget.scenes.evaluation.captions`.

One image per held-out caption, 30 steps, guidance 7.5. A detector that was trained on renderings only judges them.
The same judge's scores on renderings of the captions, and on renderings reconstructed by the autoencoder, are upper
bounds: what a perfect denoiser would reach.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes import WEIGHTS, draw, load
from diffvis_widget.scenes.render import Scene
from diffvis_widget.tracer import to_pixels

from .judge import Verdict, check, load_judge

STEPS, GUIDANCE = 30, 7.5
REQUIRED = {
    "setting": 0.98,
    "object": 0.97,
    "colour": 0.95,
    "texture": 0.90,
    "size": 0.85,
    "relation": 0.95,
    "place": 0.95,
}
REQUIRED_OF_JUDGE, REQUIRED_PSNR = 0.995, 32.0


def held_out_scenes(count: int) -> list[Scene]:
    """Render scenes whose combinations training never drew.

    Args:
        count: Number of scenes.

    Returns:
        The scenes, the same ones for the same count.
    """
    return [draw(1_000_000 + i, held_out=True) for i in range(count)]


def generate(captions: list[str], batch: int = 50, pipe: StableDiffusionPipeline | None = None) -> NDArray[np.uint8]:
    """Generate one image per caption; image i starts from seed i.

    Args:
        captions: n captions.
        batch: Images per call of the pipeline.
        pipe: The pipeline; None for the packaged model.

    Returns:
        uint8 (n, 96, 96, 3).
    """
    pipe = pipe or load()
    generated: list[NDArray[np.uint8]] = []
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
        generated.append(np.rint(np.asarray(images) * 255).astype(np.uint8))
    return np.concatenate(generated)


@torch.no_grad()
def reconstruct(images: NDArray[np.uint8], batch: int = 50) -> NDArray[np.uint8]:
    """Encode images to the mean of their latents and decode them again.

    Args:
        images: uint8 (n, 96, 96, 3).
        batch: Images per call of the autoencoder.

    Returns:
        uint8 (n, 96, 96, 3).
    """
    vae = load().vae
    decoded: list[NDArray[np.uint8]] = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float() / 127.5 - 1
        (posterior,) = vae.encode(x, return_dict=False)
        decoded.append(to_pixels(vae.decode(posterior.mean, return_dict=False)[0]))
    return np.concatenate(decoded)


def psnr(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """Mean peak signal-to-noise ratio of images.

    Args:
        images: uint8 (n, h, w, 3).
        others: The images to compare with, uint8 (n, h, w, 3).

    Returns:
        The ratio in dB.
    """
    error = np.square(images.astype(np.float64) - others).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


def score(scenes: Iterable[Scene], verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """Compare verdicts with the captions.

    Args:
        scenes: The scenes.
        verdicts: The judge's verdict on an image of each.

    Returns:
        For each measure, the number of correct answers and of questions.
    """
    answers: dict[str, list[bool]] = defaultdict(list)
    for scene, verdict in zip(scenes, verdicts, strict=True):
        for measure, correct in check(scene.sketch.spec, verdict).items():
            answers[measure] += correct
    return {measure: (sum(correct), len(correct)) for measure, correct in answers.items()}


def colour_accuracy_by_word(
    scenes: Iterable[Scene], verdicts: Iterable[Verdict]
) -> dict[tuple[str, str], tuple[int, int]]:
    """How often an object is present in its colour, by the words of its caption.

    Args:
        scenes: The scenes.
        verdicts: The judge's verdict on an image of each.

    Returns:
        For each attribute and word, the number of objects present in their colour and of all objects.
    """
    answers: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for scene, verdict in zip(scenes, verdicts, strict=True):
        spec = scene.sketch.spec
        for thing, right in zip(spec.things, check(spec, verdict)["colour"], strict=True):
            for part, word in {**vars(thing), "relation": spec.relation, "setting": spec.setting}.items():
                answers[part, word or "(none)"].append(right)
    return {key: (sum(correct), len(correct)) for key, correct in sorted(answers.items())}


def sheet(images: NDArray[np.uint8], columns: int = 10) -> Image.Image:
    """Arrange images in rows.

    Args:
        images: uint8 (n, h, w, 3).
        columns: Images in a row; an incomplete last row is dropped.

    Returns:
        One image.
    """
    rows = [np.concatenate(list(images[i : i + columns]), axis=1) for i in range(0, len(images), columns)]
    return Image.fromarray(np.concatenate([row for row in rows if row.shape[1] == rows[0].shape[1]]))


def main() -> None:
    """Print the table; with ``--sheet``, save a sheet of images."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.captions", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="captions")
    parser.add_argument("--sheet", type=Path, help="save the first 100 images here, as a PNG")
    parser.add_argument("--by", action="store_true", help="also how often an object is present in its colour, by word")
    args = parser.parse_args()
    if args.count < 1:
        parser.error(f"--count is {args.count}, but a table needs at least 1 caption")
    began = time.monotonic()
    scenes = held_out_scenes(args.count)
    judge = load_judge(WEIGHTS / "judge.safetensors")
    renderings = np.stack([scene.image for scene in scenes])
    on_renderings = score(scenes, judge.detect(renderings))
    decoded = reconstruct(renderings)
    reconstruction_verdicts = judge.detect(decoded)
    on_reconstructions = score(scenes, reconstruction_verdicts)
    images = generate([scene.caption for scene in scenes])
    verdicts = judge.detect(images)
    on_images = score(scenes, verdicts)
    print(f"{args.count} held-out captions, {STEPS} steps, guidance {GUIDANCE}")
    print("| measure | correct | 95 % interval | cases | required | renderings | renderings through the autoencoder |")
    print("|---|---|---|---|---|---|---|")
    for measure, required in REQUIRED.items():
        if measure not in on_images:  # few captions may ask for no place, say
            continue
        right, total = on_images[measure]
        low, high = proportion_interval(right, total)
        print(
            f"| {measure} | {right / total:.1%} | {low:.1%} to {high:.1%} | {total} | {required:.0%} | "
            f"{on_renderings[measure][0] / total:.1%} | {on_reconstructions[measure][0] / total:.1%} |"
        )
    right, total = (sum(column) for column in zip(*on_renderings.values(), strict=True))
    print(f"judge on renderings: {right / total:.2%} of {total} answers (required {REQUIRED_OF_JUDGE:.1%})")
    print(f"autoencoder on renderings: {psnr(decoded, renderings):.1f} dB (required {REQUIRED_PSNR:.0f} dB)")
    print(f"{time.monotonic() - began:.0f} s")
    if args.by:
        print(
            "| attribute | word | colour correct | cases | renderings through the autoencoder |\n|---|---|---|---|---|"
        )
        reachable = colour_accuracy_by_word(scenes, reconstruction_verdicts)
        for (attribute, word), (right, total) in colour_accuracy_by_word(scenes, verdicts).items():
            print(
                f"| {attribute} | {word} | {right / total:.1%} | {total} | "
                f"{reachable[attribute, word][0] / total:.1%} |"
            )
    if args.sheet is not None:
        sheet(images[:100]).save(args.sheet)


if __name__ == "__main__":
    main()
