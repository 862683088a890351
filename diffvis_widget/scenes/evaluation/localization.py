"""Measure whether a word's heat map lies on its object: `python -m diffvis_widget.scenes.evaluation.localization`.

Held-out renderings with known masks are noised half way and denoised by image-to-image, which keeps the layout. The
attention of that run, averaged over the steps, is compared with the mask of each object and colour word: the mean
inside over the mean outside (1 is chance), how often the maximum lies in the mask (pointing game), and the intersection
over union of the mask and the pixels above the middle of the map's range. The table has a row for each layer, and for
each way to aggregate the layers into one map.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

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
from diffvis_widget.traces import Trace
from diffvis_widget.traces.resize import finest, resize
from diffvis_widget.traces.types import Floats

from .captions import held_out_scenes

STEPS, STRENGTH, GUIDANCE = 20, 0.5, 7.5
ROLES = ("object", "colour")
# a trace -> maps of all words, (words, SIZE, SIZE)
Aggregation = Callable[[Trace], Floats]


def image_to_image_runs(scenes: list[Scene], batch: int = 20) -> Iterator[tuple[Scene, Trace]]:
    """Run image-to-image from the noised renderings.

    Args:
        scenes: The scenes.
        batch: Images per call.

    Yields:
        Each scene and the trace of its run.
    """
    pipe = StableDiffusionImg2ImgPipeline(**load().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        with Tracer(pipe, keep="heads") as tracer:
            pipe(
                [scene.caption for scene in part],
                image=[Image.fromarray(scene.image) for scene in part],
                strength=STRENGTH,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
                output_type="np",
            )
        yield from zip(part, tracer.traces, strict=True)


def layers(which: str | int | None) -> Aggregation:
    """The mean over layers, each resized bilinearly to the finest grid among them, then to the size of the image.

    Args:
        which: The layers, as for `Trace.heat_maps`.

    Returns:
        The aggregation.
    """
    return lambda trace: resize(trace.heat_maps(layer=which), (SIZE, SIZE))


def refined_maps(trace: Trace) -> Floats:
    """The refined maps, resized bilinearly to the size of the image.

    Args:
        trace: The trace.

    Returns:
        Maps of all words, (words, SIZE, SIZE).
    """
    return trace.heat_maps(kind="refined", size=(SIZE, SIZE))


def daam_aggregation(trace: Trace) -> Floats:
    """The aggregation of DAAM 0.2.0 (arXiv 2210.04885; `DiffusionHeatMapHooker.compute_global_heat_map`).

    The maps of every head of every layer outside the middle block, except those on an eighth of the latents' side, are
    summed over the steps, resized bicubically to the latents' size, clamped at zero and averaged; the mean is resized
    bicubically to the size of the image. As by its default, words are not normalised against each other.

    Args:
        trace: The trace.

    Returns:
        Maps of all words, (words, SIZE, SIZE).
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


def aggregations(trace: Trace) -> dict[str, tuple[str, Aggregation]]:
    """The rows of the table.

    Args:
        trace: The trace of any run.

    Returns:
        For each title, the grid of its maps and the aggregation.
    """
    grids = [layer.grid for layer in trace.layers]
    best = " x ".join(map(str, finest(grids)))
    rows: dict[str, tuple[str, Aggregation]] = {
        "default layers": (best, layers(None)),
        "mean of all layers": (best, layers("all")),
        "DAAM's aggregation": (" x ".join(map(str, trace.latents.shape[-2:])), daam_aggregation),
        "refined": (best, refined_maps),
    }
    return rows | {layer.name: (" x ".join(map(str, layer.grid)), layers(layer.name)) for layer in trace.layers}


def mentioned_words(scene: Scene, trace: Trace) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """The object and colour words of a scene.

    Args:
        scene: The scene.
        trace: The trace of its run.

    Yields:
        Role, index of the word, and mask.
    """
    words = [i for i, word in enumerate(trace.words) if word.kind == "word"]
    for mention, mask in zip(scene.mentions, scene.masks, strict=True):
        if mention.role in ROLES and mask.any():
            # Captions hold nothing but words and single spaces.
            yield mention.role, words[scene.caption[: mention.start].count(" ")], mask


def inside_outside_ratio(heat: Floats, mask: NDArray[np.bool_]) -> float:
    """The mean of a map inside a mask over its mean outside.

    Args:
        heat: (h, w).
        mask: (h, w).

    Returns:
        The ratio; 1 is chance.
    """
    return float(heat[mask].mean() / heat[~mask].mean())


def points_inside(heat: Floats, mask: NDArray[np.bool_]) -> bool:
    """Whether the maximum of a map lies in a mask.

    Args:
        heat: (h, w).
        mask: (h, w).

    Returns:
        True for a hit.
    """
    return bool(mask.flat[heat.argmax()])


def intersection_over_union(heat: Floats, mask: NDArray[np.bool_]) -> float:
    """Overlap of a mask and the pixels above the middle of the map's range.

    Args:
        heat: (h, w).
        mask: (h, w).

    Returns:
        Intersection over union, 0..1.
    """
    above = heat > (heat.min() + heat.max()) / 2
    return float((above & mask).sum() / (above | mask).sum())


def measure(scenes: list[Scene]) -> tuple[dict[str, str], Mapping[str, Mapping[str, list[tuple[float, bool, float]]]]]:
    """Measure all aggregations.

    Args:
        scenes: The scenes.

    Returns:
        For each aggregation, its grid; and for each aggregation and role, the ratio, hit and overlap of every word.
    """
    grids: dict[str, str] = {}
    results: dict[str, dict[str, list[tuple[float, bool, float]]]] = defaultdict(lambda: defaultdict(list))
    for scene, trace in image_to_image_runs(scenes):
        for title, (grid, aggregation) in aggregations(trace).items():
            grids[title] = grid
            maps = aggregation(trace)
            for role, word, mask in mentioned_words(scene, trace):
                heat = maps[word]
                results[title][role].append(
                    (inside_outside_ratio(heat, mask), points_inside(heat, mask), intersection_over_union(heat, mask))
                )
    return grids, results


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m diffvis_widget.scenes.evaluation.localization", description=__doc__
    )
    parser.add_argument("--count", type=int, default=200, help="scenes")
    args = parser.parse_args()
    began = time.monotonic()
    grids, results = measure(held_out_scenes(args.count))
    counts = " and ".join(f"{len(results['default layers'][role])} {role} words" for role in ROLES)
    print(f"{args.count} held-out scenes, {counts}; attention inside the mask over outside: mean (median) over words")
    heads = [f"{role} words: {what}" for role in ROLES for what in ("inside / outside", "pointing", "IoU")]
    print(f"| map | grid | {' | '.join(heads)} |")
    print("|---" * (2 + len(heads)) + "|")
    for title, grid in grids.items():
        cells: list[str] = []
        for role in ROLES:
            values, right, overlaps = zip(*results[title][role], strict=True)
            cells += [f"{np.mean(values):.2f} ({np.median(values):.2f})", f"{np.mean(right):.1%}"]
            cells.append(f"{np.mean(overlaps):.3f}")
        print(f"| {title} | {grid} | {' | '.join(cells)} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
