"""Measurements of `python -m diffvis_widget.explain.evaluation` in one scene; each of the three parts returns numbers.

words: the map of every word against the word's mask, at every step. steps: the map of a step against the objects'
masks, and the games. sanity: how similar a map stays when the denoiser's weights are randomised, block by block from
output to input (J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv 1810.03292).
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

from diffvis_widget.explain.baseline_maps import averaged, baselines
from diffvis_widget.explain.cam import df_cam
from diffvis_widget.explain.insertion_deletion import games
from diffvis_widget.explain.lime import df_lime
from diffvis_widget.explain.methods import registered_methods
from diffvis_widget.explain.rise import df_rise
from diffvis_widget.explain.word_relevance import relevance
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import Floats, Size

from .ground_truth import Region, Rendering
from .json_lines import Line
from .metrics import localization_scores, rank_correlation

STEPS = 10
ASKED_STEPS = (2, 6)  # for the methods that explain a step: one of high noise, one of low
MASKS, SAMPLES = 500, 300
SANITY_TIMESTEP = 499
SANITY_MASKS, SANITY_SAMPLES = 100, 100
DEFAULT, ALL, DAAM, RELEVANCE = "attention, default layers", "attention, all layers", "attention, DAAM", "relevance"
OTHER = "attention of the other thing's word"


def words(pipe: Any, rendering: Rendering) -> Line:
    """Measure pointing, IoU and average precision of the words' maps, for each role and method.

    Args:
        pipe: The scenes pipeline.
        rendering: The scene.

    Returns:
        Timesteps and, per role and method, values (3, STEPS + 1): one column a step, the last one for the mean of all
        steps' maps.
    """
    word_relevance = relevance(pipe, rendering.scene.caption, progress=False, **rendering.arguments(pipe, STEPS))
    trace = word_relevance.trace
    regions = rendering.regions(trace)
    values: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    per_step = [*range(STEPS), None]
    maps = [_word_maps(trace, word_relevance.maps, step) for step in per_step]
    for region in regions:
        for method in maps[0]:
            heats = [step_maps[method][region.word] for step_maps in maps]
            values[region.role][method].append(np.array([localization_scores(heat, region.mask) for heat in heats]))
        other = _other(region, regions)
        if other is not None:
            heats = [step_maps[DEFAULT][other.word] for step_maps in maps]
            values[region.role][OTHER].append(np.array([localization_scores(heat, region.mask) for heat in heats]))
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
    """The object word of the scene's other object."""
    if region.thing is None:
        return None
    others = [candidate for candidate in regions if candidate.role == "object" and candidate.thing != region.thing]
    return others[0] if others else None


def _word_maps(trace: Trace, relevances: Floats, step: int | None) -> dict[str, Floats]:
    """Maps float32 (W, h, w) by method at one step, or their means over the steps."""
    size = (int(relevances.shape[2]), int(relevances.shape[3]))
    image = trace.frames("prediction")[-1 if step is None else step]
    blind = baselines(image, size, np.random.default_rng([len(trace.prompt), step or 0]))
    return {
        DEFAULT: trace.heat_maps(step=step),
        ALL: trace.heat_maps(step=step, layer="all"),
        DAAM: daam(trace, step, size),
        RELEVANCE: relevances.mean(axis=0) if step is None else relevances[step],
        **{name: np.broadcast_to(heat, (len(trace.words), *size)) for name, heat in blind.items()},
    }


def daam(trace: Trace, step: int | None, size: Size) -> Floats:
    """Aggregate the attention of all words as DAAM does, at one step or summed over the steps.

    R. Tang et al., "What the DAAM", ACL 2023, arXiv 2210.04885, Eq. 5: the sum over the layers of the down and up
    blocks (without the middle one), over heads and steps, of maps resized bicubically and clamped at 0. Heads enter by
    their mean.

    Args:
        trace: The run.
        step: Index into `trace.steps`; None for all.
        size: (h, w) of the result.

    Returns:
        float32 (W, h, w).
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
    """Measure the maps of one step against the objects' masks, and their deletion and insertion AUC.

    Args:
        pipe: The scenes pipeline.
        rendering: The scene.
        step: Index of the step.

    Returns:
        Timestep, mask share, number of RISE masks and, per method: pointing, IoU, average precision, deletion AUC,
        insertion AUC.
    """
    trace = run(pipe, rendering.scene.caption, **rendering.arguments(pipe, STEPS))
    size = (int(trace.latents.shape[2]), int(trace.latents.shape[3]))
    rise = df_rise(trace, step, MASKS, coverage="actual", progress=False)
    image = trace.frames("prediction")[step]
    measured = {"DF-RISE", "DF-CAM", "DF-LIME"}  # these have settings of their own; other methods run as registered
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
        **baselines(image, size, np.random.default_rng([len(trace.prompt), step])),
    }
    result = games(trace, step, maps, progress=False)
    deletion, insertion = result.deletion_auc, result.insertion_auc
    return {
        "timestep": int(trace.timesteps[step]),
        "share": _rounded(rendering.objects.mean()),
        "masks": rise.masks_used,
        "methods": {
            name: _rounded([*localization_scores(heat, rendering.objects), deletion[name], insertion[name]])
            for name, heat in maps.items()
        },
    }


def _of_objects(maps: Floats, regions: list[Region]) -> Floats:
    return maps[[region.word for region in regions if region.role == "object"]].sum(axis=0)


def sanity(pipe: Any, rendering: Rendering) -> Line:
    """Measure the Spearman correlation of each method's map with the trained model's while the weights are randomised.

    The first stage is the trained model again, with other masks and samples where the method draws them: the
    method's own noise. Then the weights of the output are randomised, then those of the last up block too, and so on.

    Args:
        pipe: The scenes pipeline, which is left unchanged.
        rendering: The scene.

    Returns:
        Names of the stages and, per method, one correlation a stage.
    """
    first = _sanity_maps(pipe, rendering, seed=0)
    correlations: dict[str, list[float]] = defaultdict(list)
    stages: list[str] = []
    randomised = copy.copy(pipe)
    randomised.unet = copy.deepcopy(pipe.unet)
    generator = torch.Generator().manual_seed(0)
    for stage, modules in [("nothing", []), *blocks(randomised.unet)]:
        stages.append(stage)
        for module in modules:
            randomise(module, generator)
        for method, heats in _sanity_maps(randomised, rendering, seed=1).items():
            pairs = zip(first[method], heats, strict=True)
            correlations[method].append(float(np.mean([rank_correlation(a, b) for a, b in pairs])))
    return {"stages": stages, "methods": {method: _rounded(values) for method, values in correlations.items()}}


def _sanity_maps(pipe: Any, rendering: Rendering, seed: int) -> dict[str, list[Floats]]:
    """Maps by method: one for each object word, or a single map of the step."""
    arguments = rendering.arguments(pipe, timesteps=[SANITY_TIMESTEP])
    word_relevance = relevance(pipe, rendering.scene.caption, progress=False, **arguments)
    trace = word_relevance.trace
    size = (int(word_relevance.maps.shape[2]), int(word_relevance.maps.shape[3]))
    chosen = [region.word for region in rendering.regions(trace) if region.role == "object"]
    return {
        DEFAULT: list(trace.heat_maps(step=0)[chosen]),
        ALL: list(trace.heat_maps(step=0, layer="all")[chosen]),
        DAAM: list(daam(trace, 0, size)[chosen]),
        RELEVANCE: list(word_relevance.maps[0][chosen]),
        "DF-RISE": [df_rise(trace, 0, SANITY_MASKS, coverage="actual", seed=seed, progress=False).map],
        "DF-CAM": [df_cam(trace, 0).map],
        "DF-LIME": [df_lime(trace, 0, SANITY_SAMPLES, seed=seed, progress=False).map],
    }


def blocks(unet: nn.Module) -> Iterator[tuple[str, list[nn.Module]]]:
    """List the blocks of a U-Net from its output to its input.

    Args:
        unet: A diffusers U-Net.

    Yields:
        Name and modules of each block.
    """
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
    """Redraw every weight from a normal distribution with the mean and standard deviation of its tensor.

    Args:
        module: The module, changed in place.
        generator: Source of the random numbers.
    """
    with torch.no_grad():
        for weight in module.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float32)
            weight.copy_(weight.mean() + weight.std(correction=0) * noise.to(weight))


def _rounded(values: Any) -> Any:
    return np.round(np.asarray(values, dtype=np.float64), 3).tolist()


PARTS: dict[str, Callable[..., Line]] = {"words": words, "steps": steps, "sanity": sanity}
