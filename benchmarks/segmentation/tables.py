"""The tables of `python -m benchmarks.segmentation`: accuracy, mean IoU and mAP, beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffvis_widget.explain.evaluation.json_lines import Line
from diffvis_widget.explain.evaluation.summaries import table
from diffvis_widget.intervals import mean_interval

RULES = {
    "threshold": "Images of one class, map above its mean (the protocol of ImageNet-Segmentation)",
    "single": "Images of one class, largest concept (the protocol of Pascal VOC, single class)",
    "multi": "All images, largest concept (the protocol of Pascal VOC, multi-class)",
}
# mean IoU on ImageNet-Segmentation as published, in percent: A. Helbling et al., "ConceptAttention", ICML 2025, arXiv
# 2502.04320, Table 1. Its other columns and Pascal VOC stand in Tables 1 and 2 there.
PUBLISHED = (
    ("ConceptAttention, FLUX.1 schnell", 71.0),
    ("DAAM, SDXL", 64.6),
    ("raw cross-attention, FLUX.1 schnell", 59.9),
)


@dataclass(frozen=True)
class Row:
    """The numbers of one kind of map by one rule, over a data set.

    Attributes:
        images: Number of images.
        accuracy: Share of correct pixels, 0..1.
        mean_iou: Mean over classes of the intersection over union of all images, 0..1.
        mean_precision: Mean over images of the average precision, 0..1.
        precision_interval: Its 95 % interval.
    """

    images: int
    accuracy: float
    mean_iou: float
    mean_precision: float
    precision_interval: tuple[float, float]


def summarise(lines: Sequence[Line], kind: str, rule: str) -> Row | None:
    """Sum up the measurements of a data set.

    With one class a image, all classes count as one against the background, as in the protocol.

    Args:
        lines: Measurements, a line an image.
        kind: Kind of map.
        rule: Key of RULES.

    Returns:
        The numbers; None without an image.
    """
    binary = rule != "multi"
    chosen = [line for line in lines if not binary or len(line["classes"]) == 1]
    if not chosen:
        return None
    shared: dict[str, int] = {}
    either: dict[str, int] = {}
    for line in chosen:
        for name, (both, any_of) in line["maps"][kind]["threshold" if rule == "threshold" else "argmax"].items():
            key = "object" if binary and name != "background" else name
            shared[key] = shared.get(key, 0) + both
            either[key] = either.get(key, 0) + any_of
    # each pixel is in the union of its true class, and, where it is wrong, in that of the chosen one too
    right = sum(shared.values())
    pixels = right + (sum(either.values()) - right) / 2
    precision = [line["maps"][kind]["precision"] for line in chosen if line["maps"][kind]["precision"] is not None]
    low, high = mean_interval(precision, 0, 1)
    return Row(
        len(chosen),
        right / pixels,
        float(np.mean([shared[key] / either[key] for key in shared])),
        float(np.mean(precision)),
        (float(low), float(high)),
    )


def tables(lines: Sequence[Line], published: bool) -> list[str]:
    """Format the tables.

    Args:
        lines: Measurements, a line an image.
        published: Whether to print the published numbers below the first table.

    Returns:
        Lines of Markdown.
    """
    text: list[str] = []
    kinds = list(lines[0]["maps"]) if lines else []
    for rule, title in RULES.items():
        rows: list[list[str]] = []
        images = 0
        for kind in kinds:
            if (row := summarise(lines, kind, rule)) is not None:
                images = row.images
                low, high = (100 * end for end in row.precision_interval)
                cells = [100 * row.accuracy, 100 * row.mean_iou]
                precision = f"{100 * row.mean_precision:.1f} ({low:.1f} to {high:.1f})"
                rows.append([kind, *(f"{cell:.1f}" for cell in cells), precision])
        if not rows:
            continue
        if published and rule == "threshold":
            rows += [[f"{name} (published)", "", f"{iou:.1f}", ""] for name, iou in PUBLISHED]
        text += [f"{title}; {images} images:", "", *table(["map", "Acc", "mIoU", "mAP (95 % interval)"], rows)]
    return text
