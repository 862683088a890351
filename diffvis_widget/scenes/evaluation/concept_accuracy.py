"""Measure the concept model on images of the world: `python -m diffvis_widget.scenes.evaluation.concept_accuracy`.

The images are held-out renderings of one object, clean and as intermediate predictions: noised to half of the noise
levels and denoised by the scenes model in one step. For each attribute the word with the largest cosine is chosen. The
second table compares the share of the chosen word with how often it is correct.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes import draw, load
from diffvis_widget.scenes.render import Scene
from diffvis_widget.scenes.world import ATTRIBUTES, SETTINGS

_KINDS: dict[str, tuple[str, ...]] = {**ATTRIBUTES, "setting": tuple(SETTINGS)}
_BATCH = 50


def single_object_scenes(count: int) -> list[Scene]:
    """Render held-out scenes of one object each.

    Args:
        count: Number of scenes.

    Returns:
        The scenes.
    """
    scenes: list[Scene] = []
    seed = 2_000_000
    while len(scenes) < count:
        scene = draw(seed, held_out=True)
        if len(scene.sketch.things) == 1:
            scenes.append(scene)
        seed += 1
    return scenes


@torch.no_grad()
def noisy_predictions(pipe: StableDiffusionPipeline, scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """Noise renderings to half of the noise levels and predict them clean in one step, at guidance 1.

    The noise of image i is drawn from seed i.

    Args:
        pipe: The scenes model.
        scenes: n scenes.

    Returns:
        uint8 (n, 96, 96, 3).
    """
    alphas = pipe.scheduler.alphas_cumprod
    level = len(alphas) // 2
    signal, noise = alphas[level].sqrt(), (1 - alphas[level]).sqrt()
    scale = pipe.vae.config["scaling_factor"]
    images: list[NDArray[np.uint8]] = []
    for start in range(0, len(scenes), _BATCH):
        part = scenes[start : start + _BATCH]
        x = torch.from_numpy(np.stack([scene.image for scene in part])).permute(0, 3, 1, 2).float() / 127.5 - 1
        clean = pipe.vae.encode(x).latent_dist.mean * scale
        added = torch.stack(
            [torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(start + i)) for i in range(len(part))]
        )
        text, _ = pipe.encode_prompt([scene.caption for scene in part], x.device, 1, False)
        noisy = signal * clean + noise * added
        v = pipe.unet(noisy, torch.tensor(level), text, return_dict=False)[0]
        y = pipe.vae.decode((signal * noisy - noise * v) / scale, return_dict=False)[0]
        pixels = ((y.clamp(-1, 1) + 1) * 127.5).round().byte()
        images.append(pixels.permute(0, 2, 3, 1).numpy())
    return np.concatenate(images)


def answers(
    meter: ConceptMeter, scenes: Sequence[Scene], images: NDArray[np.uint8]
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """Choose a word for each attribute of each scene by the largest cosine.

    Args:
        meter: The concept meter.
        scenes: n scenes.
        images: Their images, uint8 (n, 96, 96, 3).

    Returns:
        For each attribute, over the scenes whose caption states it: whether the choice is correct, and its share.
    """
    choices: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {}
    for attribute, words in _KINDS.items():
        stated = [s.sketch.spec.setting if attribute == "setting" else getattr(s.sketch.things[0], attribute)
                for s in scenes]  # fmt: skip
        is_stated = np.array([word is not None for word in stated])
        cosine, _ = meter.scores(images[is_stated], list(words))
        share = meter.share(cosine)
        right = np.array([words.index(str(word)) for word in stated if word is not None]) == cosine.argmax(axis=1)
        choices[attribute] = right, share.max(axis=1)
    return choices


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m diffvis_widget.scenes.evaluation.concept_accuracy", description=__doc__
    )
    parser.add_argument("--count", type=int, default=1000, help="renderings")
    args = parser.parse_args()
    began = time.monotonic()
    scenes, meter = single_object_scenes(args.count), ConceptMeter()
    image_kinds = {
        "renderings": np.stack([scene.image for scene in scenes]),
        "half-finished": noisy_predictions(load(), scenes),
    }
    results = {kind: answers(meter, scenes, images) for kind, images in image_kinds.items()}
    print(f"{args.count} held-out scenes of one object: correct word by the largest cosine (95 % interval)")
    print("| attribute | words | " + " | ".join(image_kinds) + " |")
    print("|---|---|---|---|")
    for attribute, words in _KINDS.items():
        cells: list[str] = []
        for kind in image_kinds:
            right = results[kind][attribute][0]
            low, high = proportion_interval(int(right.sum()), len(right))
            cells.append(f"{right.mean():.1%} ({low:.1%} to {high:.1%})")
        print(f"| {attribute} | {len(words)} | {' | '.join(cells)} |")
    print("\nShare of the choice, and how often the choice was correct (answers)")
    print("| share | " + " | ".join(image_kinds) + " |")
    print("|---|---|---|")
    edges = (0.0, 0.5, 0.7, 0.9, 0.97, 1.0)
    for low, high in pairwise(edges):
        cells = []
        for kind in image_kinds:
            right = np.concatenate([results[kind][attribute][0] for attribute in _KINDS])
            share = np.concatenate([results[kind][attribute][1] for attribute in _KINDS])
            inside = (share > low) & (share <= high)
            cells.append(f"{right[inside].mean():.1%} ({inside.sum()})" if inside.any() else "none")
        print(f"| {low:.0%} to {high:.0%} | {' | '.join(cells)} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
