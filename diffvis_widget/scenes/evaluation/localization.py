"""Does a word's heat map lie on its thing? `python -m diffvis_widget.scenes.evaluation.localization`.

Held-out renderings, whose masks are known, are noised to half way and painted again from there by image-to-image, which
keeps the layout; the attention of that run, mean over the steps, is compared with the mask of every object and colour
word: the mean inside over the mean outside (1 is chance), how often the map's highest pixel lies in the mask, and the
overlap (intersection over union) of the mask with the pixels above the middle between the map's least and greatest
value. So for each layer, and for the ways to make one map of all layers.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from diffvis_widget.scenes import load
from diffvis_widget.scenes.render import SIZE, Scene
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.hooks import watch
from diffvis_widget.traces import Trace
from diffvis_widget.traces.resize import finest, resize

from .captions import held_out_scenes

STEPS, STRENGTH, GUIDANCE = 20, 0.5, 7.5
ROLES = ("object", "colour")
Floats = NDArray[np.float32]
# a trace, and the self-attention of its run -> maps of all words, (words, SIZE, SIZE)
Way = Callable[[Trace, Floats], Floats]


@contextmanager
def self_attention(cells: int, images: int) -> Iterator[list[Tensor]]:
    """While in it, the self-attention of layers of so many positions is collected.

    float32 (images, cells, cells) each, the mean over heads in the half of the batch that sees the prompt.
    """
    found: list[Tensor] = []

    def watcher(original: Callable[..., Tensor], query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if query.shape[2] == key.shape[2] == cells:
            q, k = query[-images:].float(), key[-images:].float()
            found.append((q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1))
        return original(query, key, *args, **kwargs)

    end = watch(F, "scaled_dot_product_attention", watcher)
    try:
        yield found
    finally:
        end()


def runs_of(scenes: list[Scene], batch: int = 20) -> Iterator[tuple[Scene, Trace, Floats]]:
    """Image-to-image runs that start from the noised renderings, each scene's trace and the self-attention of the run:

    on the finest grid that attends to words, the mean over its layers, heads and steps, (cells, cells).
    """
    pipe = StableDiffusionImg2ImgPipeline(**load().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    cells = (SIZE // pipe.vae_scale_factor) ** 2
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        with self_attention(cells, len(part)) as seen, Tracer(pipe, keep="heads") as tracer:
            pipe(
                [scene.caption for scene in part],
                image=[Image.fromarray(scene.image) for scene in part],
                strength=STRENGTH,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
                output_type="np",
            )
        yield from zip(part, tracer.traces, torch.stack(seen).mean(dim=0).numpy(), strict=True)


def layers(which: str | int | None) -> Way:
    """The mean over some layers, each resized bilinearly to the finest grid among them, and the mean to the picture."""
    return lambda trace, attention: resize(trace.heat_maps(layer=which), (SIZE, SIZE))


def refined(trace: Trace, attention: Floats) -> Floats:
    """The default layers; each position gets the mean of those that it attends to in self-attention."""
    maps = trace.heat_maps()
    flat = maps.reshape(len(maps), -1) @ attention.T
    return resize(flat.reshape(maps.shape), (SIZE, SIZE))


def daam(trace: Trace, attention: Floats) -> Floats:
    """As DAAM 0.2.0 has it (arXiv 2210.04885; `DiffusionHeatMapHooker.compute_global_heat_map`).

    The maps of every head of every layer outside the middle block, but for those on an eighth of the latents' side,
    summed over the steps, brought to the latents' size by bicubic interpolation, what falls below zero set to zero, the
    mean of all; then bicubic again to the picture's size. Its default leaves words unnormalised against one another.
    """
    side = trace.latents.shape[-1]
    parts: list[Tensor] = []
    for index, layer in enumerate(trace.layers):
        if "mid_block" in layer.name or math.isqrt(side * side // (layer.grid[0] * layer.grid[1])) == 8:
            continue
        for head in range(layer.heads):
            maps = torch.from_numpy(trace.heat_maps(layer=index, head=head))[:, None] * len(trace.steps)
            parts.append(F.interpolate(maps, size=(side, side), mode="bicubic").clamp_(min=0))
    mean = torch.stack(parts).mean(dim=0)
    return F.interpolate(mean, size=(SIZE, SIZE), mode="bicubic")[:, 0].numpy()


def ways(trace: Trace) -> dict[str, tuple[str, Way]]:
    """By title, the grid and how a map is made."""
    grids = [layer.grid for layer in trace.layers]
    best = " x ".join(map(str, finest(grids)))
    found: dict[str, tuple[str, Way]] = {
        "default layers": (best, layers(None)),
        "mean of all layers": (best, layers("all")),
        "DAAM's aggregation": (" x ".join(map(str, trace.latents.shape[-2:])), daam),
        "default layers, refined by self-attention": (best, refined),
    }
    return found | {layer.name: (" x ".join(map(str, layer.grid)), layers(layer.name)) for layer in trace.layers}


def spoken(scene: Scene, trace: Trace) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """(role, index of the word, mask) of every object and colour word of a scene."""
    words = [i for i, word in enumerate(trace.words) if word.kind == "word"]
    for mention, mask in zip(scene.mentions, scene.masks, strict=True):
        if mention.role in ROLES and mask.any():
            # Captions hold nothing but words and single spaces.
            yield mention.role, words[scene.caption[: mention.start].count(" ")], mask


def ratio(heat: Floats, mask: NDArray[np.bool_]) -> float:
    """Mean of a map inside a mask over its mean outside."""
    return float(heat[mask].mean() / heat[~mask].mean())


def points(heat: Floats, mask: NDArray[np.bool_]) -> bool:
    """Whether the map's highest pixel lies in the mask."""
    return bool(mask.flat[heat.argmax()])


def overlap(heat: Floats, mask: NDArray[np.bool_]) -> float:
    """Intersection over union of a mask and the pixels above the middle between the map's least and greatest value."""
    above = heat > (heat.min() + heat.max()) / 2
    return float((above & mask).sum() / (above | mask).sum())


def ratios(scene: Scene, maps: Floats, trace: Trace) -> list[tuple[str, float]]:
    """(role, ratio) of every object and colour word of a scene. maps: (words, SIZE, SIZE)."""
    return [(role, ratio(maps[word], mask)) for role, word, mask in spoken(scene, trace)]


def measure(scenes: list[Scene]) -> tuple[dict[str, str], Mapping[str, Mapping[str, list[tuple[float, bool, float]]]]]:
    """By way, its grid; by way and role, (ratio, whether it points right, overlap) of every word of every scene."""
    grids: dict[str, str] = {}
    found: dict[str, dict[str, list[tuple[float, bool, float]]]] = defaultdict(lambda: defaultdict(list))
    for scene, trace, attention in runs_of(scenes):
        for title, (grid, way) in ways(trace).items():
            grids[title] = grid
            maps = way(trace, attention)
            for role, word, mask in spoken(scene, trace):
                heat = maps[word]
                found[title][role].append((ratio(heat, mask), points(heat, mask), overlap(heat, mask)))
    return grids, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m diffvis_widget.scenes.evaluation.localization", description=__doc__
    )
    parser.add_argument("--count", type=int, default=200, help="scenes")
    args = parser.parse_args()
    began = time.monotonic()
    grids, found = measure(held_out_scenes(args.count))
    counts = " and ".join(f"{len(found['default layers'][role])} {role} words" for role in ROLES)
    print(f"{args.count} held-out scenes, {counts}; attention inside the mask over outside: mean (median) over words")
    heads = [f"{role} words: {what}" for role in ROLES for what in ("inside / outside", "pointing", "IoU")]
    print(f"| map | grid | {' | '.join(heads)} |")
    print("|---" * (2 + len(heads)) + "|")
    for title, grid in grids.items():
        cells: list[str] = []
        for role in ROLES:
            values, right, overlaps = zip(*found[title][role], strict=True)
            cells += [f"{np.mean(values):.2f} ({np.median(values):.2f})", f"{np.mean(right):.1%}"]
            cells.append(f"{np.mean(overlaps):.3f}")
        print(f"| {title} | {grid} | {' | '.join(cells)} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
