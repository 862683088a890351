"""Segments an image by its maps, and counts pixels as ConceptAttention's protocol does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.explain.evaluation.json_lines import Line
from diffvis_widget.explain.evaluation.metrics import pixel_counts, two_class_precision
from diffvis_widget.tracer.families import find_family
from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import Floats

from .voc import VOID, Sample

EVALUATED = 224  # pixels of a side, as in the protocol
OUTPUT, REFINED, ATTENTION = "output space, softmax", "refined", "attention"
COMPETING = ", among the concepts"


@dataclass(frozen=True)
class Settings:
    """How images are traced.

    Attributes:
        levels: Timesteps to which an image is noised.
        size: Pixels of a side of the image that the model sees.
        background: Concepts that stand for the background.
        seed: Seed of the noise.
    """

    levels: tuple[int, ...]
    size: int
    background: tuple[str, ...]
    seed: int = 0


def maps_of(pipe: Any, sample: Sample, settings: Settings) -> dict[str, Floats]:
    """Trace an image with its classes and the background as concepts.

    Args:
        pipe: The pipeline.
        sample: The image.
        settings: How.

    Returns:
        By kind of map, float32 (concepts, h, w): the background's concepts first, then the classes of the image.
    """
    joint = find_family(pipe)[0].concept_stream is not None
    classes = list(sample.classes.values())
    concepts = [*(name for name in settings.background if name not in classes), *classes]
    trace = dv.trace_image(
        pipe,
        sample.image.resize((settings.size, settings.size), Image.Resampling.BICUBIC),
        ", ".join(f"a {name}" for name in classes),
        timesteps=settings.levels,
        concepts=concepts,
        seed=settings.seed,
        keep="words" if not joint else "layers",
        output=joint,
        guidance_scale=1.0,  # each level is evaluated once, so that guidance changes no map
    )
    indices = [index for index, word in enumerate(trace.words) if word.kind == "concept"]
    if len(indices) != len(concepts):
        listed = ", ".join(concepts)
        raise ValueError(f"{sample.name}: the model has {len(indices)} maps of the concepts {listed}")
    maps = {REFINED: trace.heat_maps(kind="refined")[indices], ATTENTION: trace.heat_maps()[indices]}
    for name, kind in ((REFINED, "refined"), (ATTENTION, "probability")):
        shares = [trace.heat_map(index, kind=cast(Any, kind), among=indices) for index in indices]
        maps[name + COMPETING] = np.stack(shares)
    if joint:
        maps[OUTPUT] = output_shares(pipe, trace, indices)
    return maps


def output_shares(pipe: Any, trace: Trace, indices: Sequence[int]) -> Floats:
    """ConceptAttention's maps: softmax over the concepts of the product of attention outputs (arXiv 2502.04320, Eq. 8).

    Args:
        pipe: The pipeline, a joint model.
        trace: A trace with output-space scores.
        indices: The concepts.

    Returns:
        float32 (concepts, h, w).
    """
    config = pipe.transformer.config
    channels = config.num_attention_heads * config.attention_head_dim  # scores are means over channels
    scores = trace.heat_maps(kind="output")[list(indices)].astype(np.float64) * channels
    exponentials = np.exp(scores - scores.max(axis=0))
    return (exponentials / exponentials.sum(axis=0)).astype(np.float32)


def measure(sample: Sample, maps: dict[str, Floats]) -> Line:
    """Segment an image by each kind of map.

    Two rules, as in the experiments of ConceptAttention. "threshold" (ImageNet-Segmentation; images of one class): a
    pixel is of the class where its map is above the map's mean. "argmax" (Pascal VOC): a pixel is of the concept with
    the largest value. Maps are enlarged to 224 x 224 without interpolation, masks reduced in the same way.

    Args:
        sample: The image.
        maps: By kind, see `maps_of`.

    Returns:
        Names of the classes in the image and, by kind of map, by rule, pixels in both and in at least one of
        segmentation and truth for each class, and the mean average precision of the classes' maps.
    """
    classes = list(sample.classes.values())
    values = list(sample.classes)
    truth = _nearest(sample.mask, EVALUATED)
    valid = truth != VOID
    result: dict[str, Any] = {}
    for kind, concepts in maps.items():
        large = _nearest(concepts, EVALUATED)
        backgrounds = len(large) - len(classes)
        winner = large.argmax(axis=0)
        chosen = np.array([0] * backgrounds + values)[winner]
        precision = [
            two_class_precision(large[backgrounds + number][valid], (truth == value)[valid])
            for number, value in enumerate(values)
            if (truth == value).any()
        ]
        rules = {"argmax": pixel_counts(chosen, truth, VOID)}
        if len(classes) == 1:
            above = np.where(large[-1] > large[-1].mean(), values[0], 0)
            rules["threshold"] = pixel_counts(above, truth, VOID)
        names = {0: "background", **sample.classes}
        result[kind] = {
            **{rule: {names[value]: list(pair) for value, pair in counts.items()} for rule, counts in rules.items()},
            "precision": round(float(np.mean(precision)), 4) if precision else None,
        }
    return {"classes": classes, "maps": result}


def _nearest(values: NDArray[Any], side: int) -> NDArray[Any]:
    height, width = values.shape[-2:]
    rows, columns = (np.arange(side) * length // side for length in (height, width))
    return values[..., rows[:, None], columns[None]]
