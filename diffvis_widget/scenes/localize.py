"""Does a word's heat map lie on its thing? `python -m diffvis_widget.scenes.localize`.

Held-out renderings, whose masks are known, are noised to half way and painted again from there by image-to-image, which
keeps the layout; the attention of that run is compared with the mask of every object and colour word: the mean inside
over the mean outside (1 is chance), over the steps, layer by layer and for the default layers.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.scenes import load
from diffvis_widget.scenes.evaluate import held_out_scenes
from diffvis_widget.scenes.render import SIZE, Scene
from diffvis_widget.tracer import Tracer
from diffvis_widget.traces import Trace

STEPS, STRENGTH, GUIDANCE = 20, 0.5, 7.5
ROLES = ("object", "colour")


def traces_of(scenes: list[Scene], batch: int = 20) -> list[Trace]:
    """Trace image-to-image runs that start from the noised renderings."""
    pipe = StableDiffusionImg2ImgPipeline(**load().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    traces: list[Trace] = []
    for start in range(0, len(scenes), batch):
        part = scenes[start : start + batch]
        with Tracer(pipe) as tracer:
            pipe(
                [scene.caption for scene in part],
                image=[Image.fromarray(scene.image) for scene in part],
                strength=STRENGTH,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(start + i) for i in range(len(part))],
                output_type="np",
            )
        traces += tracer.traces
    return traces


def ratio(heat: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Mean of a map inside a mask over its mean outside."""
    return float(heat[mask].mean() / heat[~mask].mean())


def ratios(scene: Scene, trace: Trace, layer: str | None) -> list[tuple[str, float]]:
    """(role, ratio) of every object and colour word of a scene; layer None: the default layers."""
    spoken = [i for i, word in enumerate(trace.words) if word.kind == "word"]
    found: list[tuple[str, float]] = []
    for mention, mask in zip(scene.mentions, scene.masks, strict=True):
        if mention.role in ROLES and mask.any():
            # Captions hold nothing but words and single spaces.
            word = spoken[scene.caption[: mention.start].count(" ")]
            heat = trace.heat_map(word, layer=layer, size=(SIZE, SIZE))
            found.append((mention.role, ratio(heat, mask)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.localize", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="scenes")
    args = parser.parse_args()
    began = time.monotonic()
    scenes = held_out_scenes(args.count)
    traces = traces_of(scenes)
    layers = traces[0].layers
    rows: list[tuple[str, str | None]] = [("default layers", None), *((layer.name, layer.name) for layer in layers)]
    grids = {layer.name: f"{layer.grid[0]} x {layer.grid[1]}" for layer in layers}
    print(f"{args.count} held-out scenes; mean attention inside the mask over outside: mean (median) over words")
    print("| layer | grid | object words | colour words | words above 1 |")
    print("|---|---|---|---|---|")
    for title, layer in rows:
        found: dict[str, list[float]] = defaultdict(list)
        for scene, trace in zip(scenes, traces, strict=True):
            for role, value in ratios(scene, trace, layer):
                found[role].append(value)
        cells = [f"{np.mean(found[role]):.2f} ({np.median(found[role]):.2f})" for role in ROLES]
        above = np.mean([value > 1 for role in ROLES for value in found[role]])
        print(f"| {title} | {grids.get(title, '')} | {cells[0]} | {cells[1]} | {above:.0%} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
