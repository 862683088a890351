"""What `python -m diffvis_widget.explain.evaluation` measures in one scene: three parts, each gives plain numbers.

words: the map of every word against the word's mask, at every step. steps: the map of a step against the things' masks,
and the games. sanity: how much of a map is left when the denoiser's weights are drawn anew, block by block from its
output to its input (J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv 1810.03292).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from diffvis_widget.explain.baselines import averaged, baselines
from diffvis_widget.explain.cam import df_cam
from diffvis_widget.explain.insertion_deletion import games
from diffvis_widget.explain.lime import df_lime
from diffvis_widget.explain.methods import registered_methods
from diffvis_widget.explain.rise import df_rise
from diffvis_widget.explain.word_relevance import relevance
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import Floats

from .ground_truth import Region, Rendering
from .json_lines import Line
from .metrics import located, rank_correlation

STEPS = 10
ASKED_STEPS = (2, 6)  # of the methods that explain a step: of high noise and of low
MASKS, SAMPLES = 500, 300
SANITY_TIMESTEP = 499
SANITY_MASKS, SANITY_SAMPLES = 100, 100
DEFAULT, ALL, DAAM, RELEVANCE = "attention, default layers", "attention, all layers", "attention, DAAM", "relevance"
OTHER = "attention of the other thing's word"


def words(pipe: Any, rendering: Rendering) -> Line:
    """For each role and method: pointing, IoU and average precision, each by step, the mean of all steps' maps last."""
    found = relevance(pipe, rendering.scene.caption, progress=False, **rendering.arguments(pipe, STEPS))
    trace, regions = found.trace, rendering.regions(found.trace)
    values: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    per_step = [*range(STEPS), None]
    maps = [_word_maps(trace, found.maps, step) for step in per_step]
    for region in regions:
        for method in maps[0]:
            heats = [step_maps[method][region.word] for step_maps in maps]
            values[region.role][method].append(np.array([located(heat, region.mask) for heat in heats]))
        other = _other(region, regions)
        if other is not None:
            heats = [step_maps[DEFAULT][other.word] for step_maps in maps]
            values[region.role][OTHER].append(np.array([located(heat, region.mask) for heat in heats]))
    return {
        "timesteps": [int(timestep) for timestep in trace.timesteps],
        "roles": {
            role: {
                "words": len(next(iter(methods.values()))),
                "share": _rounded(np.mean([region.mask.mean() for region in regions if region.role == role])),
                "methods": {
                    method: {"words": len(tables), "values": _rounded(np.mean(tables, axis=0).T)}
                    for method, tables in methods.items()
                },
            }
            for role, methods in values.items()
        },
    }


def _other(region: Region, regions: list[Region]) -> Region | None:
    """The object word of the scene's other thing."""
    if region.thing is None:
        return None
    others = [candidate for candidate in regions if candidate.role == "object" and candidate.thing != region.thing]
    return others[0] if others else None


def _word_maps(trace: Trace, relevances: Floats, step: int | None) -> dict[str, Floats]:
    """Method -> maps float32 (W, h, w) at one step, or their means over the steps."""
    size = (int(relevances.shape[2]), int(relevances.shape[3]))
    picture = trace.frames("prediction")[-1 if step is None else step]
    blind = baselines(picture, size, np.random.default_rng([len(trace.prompt), step or 0]))
    return {
        DEFAULT: trace.heat_maps(step=step),
        ALL: trace.heat_maps(step=step, layer="all"),
        DAAM: daam(trace, step, size),
        RELEVANCE: relevances.mean(axis=0) if step is None else relevances[step],
        **{name: np.broadcast_to(heat, (len(trace.words), *size)) for name, heat in blind.items()},
    }


def daam(trace: Trace, step: int | None, size: tuple[int, int]) -> Floats:
    """DAAM's aggregation of all words' attention, float32 (W, h, w), at one step or summed over the steps.

    R. Tang et al., "What the DAAM", ACL 2023, arXiv 2210.04885, Eq. 5: the sum over the layers of the down and up
    blocks, the middle one left out, over heads and steps, of maps resized bicubically (and cut at 0). Heads enter by
    their mean.
    """
    steps = range(len(trace.steps)) if step is None else (step,)
    total = torch.zeros(len(trace.words), *size, dtype=torch.float32)
    for layer in trace.layers:
        if not layer.name.startswith("mid_block"):
            for index in steps:
                maps = torch.from_numpy(trace.heat_maps(step=index, layer=layer.name))[None]
                total += F.interpolate(maps, size, mode="bicubic", align_corners=False)[0].clamp_min(0)
    return total.numpy()


def steps(pipe: Any, rendering: Rendering, step: int) -> Line:
    """For each method: pointing, IoU and average precision against the things' masks, deletion and insertion AUC."""
    trace = run(pipe, rendering.scene.caption, **rendering.arguments(pipe, STEPS))
    size = (int(trace.latents.shape[2]), int(trace.latents.shape[3]))
    rise = df_rise(trace, step, MASKS, coverage="actual", progress=False)
    picture = trace.frames("prediction")[step]
    measured = {"DF-RISE", "DF-CAM", "DF-LIME"}  # with settings of their own; others as they are registered
    maps = {
        "DF-RISE": rise.map,
        "DF-CAM": df_cam(trace, step).map,
        "DF-LIME": df_lime(trace, step, SAMPLES, progress=False).map,
        **{
            method.label: method.function(trace, step, batch=None, progress=False).map
            for method in registered_methods()
            if method.label not in measured
        },
        "attention of the objects' words": _of_objects(trace.heat_maps(step=step), rendering.regions(trace)),
        "the truth": averaged(rendering.objects.astype(np.float64), size).astype(np.float32),
        **baselines(picture, size, np.random.default_rng([len(trace.prompt), step])),
    }
    played = games(trace, step, maps, progress=False)
    deletion, insertion = played.deletion_auc, played.insertion_auc
    return {
        "timestep": int(trace.timesteps[step]),
        "share": _rounded(rendering.objects.mean()),
        "masks": rise.masks_used,
        "methods": {
            name: _rounded([*located(heat, rendering.objects), deletion[name], insertion[name]])
            for name, heat in maps.items()
        },
    }


def _of_objects(maps: Floats, regions: list[Region]) -> Floats:
    return maps[[region.word for region in regions if region.role == "object"]].sum(axis=0)


def sanity(pipe: Any, rendering: Rendering) -> Line:
    """For each method: Spearman correlation of its map with the trained model's, by how much of the model is random.

    The first stage is the trained model again, with other masks and samples where the method draws them: what chance in
    the method alone does. Then the output's weights are drawn anew, then the last up block's too, and so on.
    """
    first = _sanity_maps(pipe, rendering, seed=0)
    found: dict[str, list[float]] = defaultdict(list)
    stages: list[str] = []
    broken = copy.copy(pipe)
    broken.unet = copy.deepcopy(pipe.unet)
    generator = torch.Generator().manual_seed(0)
    for stage, modules in [("nothing", []), *blocks(broken.unet)]:
        stages.append(stage)
        for module in modules:
            randomise(module, generator)
        for method, heats in _sanity_maps(broken, rendering, seed=1).items():
            pairs = zip(first[method], heats, strict=True)
            found[method].append(float(np.mean([rank_correlation(first, other) for first, other in pairs])))
    return {"stages": stages, "methods": {method: _rounded(values) for method, values in found.items()}}


def _sanity_maps(pipe: Any, rendering: Rendering, seed: int) -> dict[str, list[Floats]]:
    """Method -> its maps: one of each object's word, or a single one of the step."""
    asked = rendering.arguments(pipe, timesteps=[SANITY_TIMESTEP])
    found = relevance(pipe, rendering.scene.caption, progress=False, **asked)
    trace = found.trace
    size = (int(found.maps.shape[2]), int(found.maps.shape[3]))
    chosen = [region.word for region in rendering.regions(trace) if region.role == "object"]
    return {
        DEFAULT: list(trace.heat_maps(step=0)[chosen]),
        ALL: list(trace.heat_maps(step=0, layer="all")[chosen]),
        DAAM: list(daam(trace, 0, size)[chosen]),
        RELEVANCE: list(found.maps[0][chosen]),
        "DF-RISE": [df_rise(trace, 0, SANITY_MASKS, coverage="actual", seed=seed, progress=False).map],
        "DF-CAM": [df_cam(trace, 0).map],
        "DF-LIME": [df_lime(trace, 0, SANITY_SAMPLES, seed=seed, progress=False).map],
    }


def blocks(unet: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """The parts of a U-Net, from its output to its input: name and modules."""
    parts = cast(Any, unet)
    yield "output", [parts.conv_norm_out, parts.conv_out]
    for kind in ("up_blocks", "mid_block", "down_blocks"):
        if kind == "mid_block":
            yield "middle", [parts.mid_block]
            continue
        stack = list(getattr(parts, kind))
        for index in reversed(range(len(stack))):
            yield f"{kind[:-7]} {index}", [stack[index]]
    yield "input", [parts.conv_in, parts.time_embedding]


def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight anew, from a normal distribution with the mean and spread of the tensor that it is in."""
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            weight.copy_(weight.mean() + weight.std(correction=0) * noise.to(weight))


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), 3).tolist()


PARTS: dict[str, Callable[..., Line]] = {"words": words, "steps": steps, "sanity": sanity}
