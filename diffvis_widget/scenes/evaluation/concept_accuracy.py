"""How well the concept model does on images of the world.

Run it as `python -m diffvis_widget.scenes.evaluation.concept_accuracy`.

Held-out renderings of one thing, clean and as half-finished predictions: noised to half of the noise levels and
predicted clean by the scenes model in one step. For each attribute the model chooses among its words by the largest
cosine; the second table asks whether the share it gives its choice is how often it is right.
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
from diffvis_widget.scenes import draw, load
from diffvis_widget.scenes.render import Scene
from diffvis_widget.scenes.world import ATTRIBUTES, SETTINGS

from .captions import interval

_KINDS: dict[str, tuple[str, ...]] = {**ATTRIBUTES, "setting": tuple(SETTINGS)}
_BATCH = 50


def single_scenes(count: int) -> list[Scene]:
    """Held-out renderings of one thing each."""
    found: list[Scene] = []
    seed = 2_000_000
    while len(found) < count:
        scene = draw(seed, held_out=True)
        if len(scene.sketch.things) == 1:
            found.append(scene)
        seed += 1
    return found


@torch.no_grad()
def half_finished(pipe: StableDiffusionPipeline, scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """What the scenes model predicts, in one step at guidance 1, from renderings noised to half of the noise levels.

    uint8 (n, 96, 96, 3). Noise of picture i is drawn from seed i.
    """
    alphas = pipe.scheduler.alphas_cumprod
    level = len(alphas) // 2
    signal, noise = alphas[level].sqrt(), (1 - alphas[level]).sqrt()
    scale = pipe.vae.config["scaling_factor"]
    pictures: list[NDArray[np.uint8]] = []
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
        pictures.append(pixels.permute(0, 2, 3, 1).numpy())
    return np.concatenate(pictures)


def answers(
    meter: ConceptMeter, scenes: Sequence[Scene], pictures: NDArray[np.uint8]
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]]:
    """Attribute -> was the choice right, and the share it was given; for the scenes that say the attribute."""
    found: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {}
    for attribute, words in _KINDS.items():
        said = [s.sketch.spec.setting if attribute == "setting" else getattr(s.sketch.things[0], attribute)
                for s in scenes]  # fmt: skip
        asked = np.array([word is not None for word in said])
        cosine, _ = meter.scores(pictures[asked], list(words))
        share = meter.share(cosine)
        right = np.array([words.index(str(word)) for word in said if word is not None]) == cosine.argmax(axis=1)
        found[attribute] = right, share.max(axis=1)
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m diffvis_widget.scenes.evaluation.concept_accuracy", description=__doc__
    )
    parser.add_argument("--count", type=int, default=1000, help="renderings")
    args = parser.parse_args()
    began = time.monotonic()
    scenes, meter = single_scenes(args.count), ConceptMeter()
    sorts = {
        "renderings": np.stack([scene.image for scene in scenes]),
        "half-finished": half_finished(load(), scenes),
    }
    read = {sort: answers(meter, scenes, pictures) for sort, pictures in sorts.items()}
    print(f"{args.count} held-out scenes of one thing: right word by the largest cosine (95 % interval)")
    print("| attribute | words | " + " | ".join(sorts) + " |")
    print("|---|---|---|---|")
    for attribute, words in _KINDS.items():
        cells: list[str] = []
        for sort in sorts:
            right = read[sort][attribute][0]
            low, high = interval(int(right.sum()), len(right))
            cells.append(f"{right.mean():.1%} ({low:.1%} to {high:.1%})")
        print(f"| {attribute} | {len(words)} | {' | '.join(cells)} |")
    print("\nShare given to the choice, and how often the choice was right (answers)")
    print("| share | " + " | ".join(sorts) + " |")
    print("|---|---|---|")
    edges = (0.0, 0.5, 0.7, 0.9, 0.97, 1.0)
    for low, high in pairwise(edges):
        cells = []
        for sort in sorts:
            right = np.concatenate([read[sort][attribute][0] for attribute in _KINDS])
            share = np.concatenate([read[sort][attribute][1] for attribute in _KINDS])
            inside = (share > low) & (share <= high)
            cells.append(f"{right[inside].mean():.1%} ({inside.sum()})" if inside.any() else "none")
        print(f"| {low:.0%} to {high:.0%} | {' | '.join(cells)} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
