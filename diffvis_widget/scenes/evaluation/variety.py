"""Measure attribute binding and variety of the scenes model: `python -m diffvis_widget.scenes.evaluation.variety`.

The swap test asks whether "a red circle and a blue square" differs from "a blue circle and a red square". The variety
of position, size and width of an object over many images of one prompt is compared with that of renderings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.render import Rgb, paint, sketch_of
from diffvis_widget.scenes.world import Spec, Thing, caption, sample_spec

from .captions import GUIDANCE, STEPS, generate
from .judge import Judge, Verdict, load_judge

PAIRS, SEEDS = 100, 64
REQUIRED = 0.95
# Each on plain paper, where the outline of an object can be measured.
VARIED = (
    Spec((Thing("circle", "red"),)),
    Spec((Thing("fish", "blue"),)),
    Spec((Thing("star", "green", texture="striped"),)),
    Spec((Thing("house", "purple"),)),
)
MEASURES = ("x", "y", "size", "stretch")
_UNLIKE = 60.0  # distance of a pixel's colour from the paper's, of 442, from which on it belongs to an object

DoubleFloats = NDArray[np.float64]


def swapped_pairs(count: int) -> Iterator[tuple[Spec, Spec]]:
    """Held-out meanings of two objects of different shapes and colours, each with the colours swapped.

    Args:
        count: Number of pairs.

    Yields:
        A meaning, and the same with its colours swapped.
    """
    rng = np.random.default_rng(2_000_000)
    pairs = 0
    while pairs < count:
        spec = sample_spec(rng, held_out=True)
        if len(spec.things) != 2:
            continue
        a, b = spec.things
        if a.shape == b.shape or a.colour == b.colour or a.colour is None or b.colour is None:
            continue
        pairs += 1
        yield spec, swap_colours(spec)


def swap_colours(spec: Spec) -> Spec:
    """Swap the colours of two objects.

    Args:
        spec: A meaning with two objects.

    Returns:
        The other meaning.
    """
    a, b = spec.things
    return replace(spec, things=(replace(a, colour=b.colour), replace(b, colour=a.colour)))


def binds_colours(spec: Spec, verdict: Verdict) -> bool:
    """Whether an image shows more pairs of shape and colour of its caption than of the swapped caption.

    Args:
        spec: The meaning of the caption.
        verdict: The verdict on the image.

    Returns:
        True where it does.
    """
    present = {(detection.thing.shape, detection.thing.colour) for detection in verdict.detections}
    matches, swapped_matches = (
        sum((thing.shape, thing.colour) in present for thing in meaning.things)
        for meaning in (spec, swap_colours(spec))
    )
    return matches > swapped_matches


def swap_test(judge: Judge, pairs: int) -> tuple[int, int, int]:
    """Generate each meaning and its swap from the same seed, and judge them.

    Args:
        judge: The judge.
        pairs: Number of pairs.

    Returns:
        Correct generated images, correct renderings, and the number of images.
    """
    specs = [spec for pair in swapped_pairs(pairs) for spec in pair]
    rng = np.random.default_rng(2_000_001)
    rendered = np.stack([paint(sketch_of(spec, rng)).image for spec in specs])
    # Both captions of a pair use the same words and start from the same noise.
    captions = [caption(spec, np.random.default_rng([2_000_002, i // 2])).text for i, spec in enumerate(specs)]
    firsts, seconds = generate(captions[::2]), generate(captions[1::2])
    generated = np.stack([image for pair in zip(firsts, seconds, strict=True) for image in pair])
    right, right_renderings = (
        sum(binds_colours(spec, verdict) for spec, verdict in zip(specs, judge.detect(images), strict=True))
        for images in (generated, rendered)
    )
    return right, right_renderings, len(specs)


def object_outline(image: Rgb) -> DoubleFloats:
    """Measure the object on plain paper; the colour of the paper is the median of the image's border.

    Args:
        image: uint8 (96, 96, 3).

    Returns:
        x and y of its centre and the root of its area, all in pixels, and its width over its height. NaN where nothing
        differs from the paper.
    """
    edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    unlike = np.linalg.norm(image.astype(np.float64) - np.median(edge, axis=0), axis=2)
    rows, columns = np.nonzero(unlike > _UNLIKE)
    if len(rows) < 16:
        return np.full(len(MEASURES), np.nan)
    stretch = columns.std() / max(float(rows.std()), 1e-6)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5, np.sqrt(len(rows)), stretch])


def relative_distance(a: DoubleFloats, b: DoubleFloats) -> float:
    """Wasserstein distance of two samples, in standard deviations of the second.

    Args:
        a: Sample; NaN is left out.
        b: Sample; NaN is left out.

    Returns:
        The distance.
    """
    a, b = (np.sort(sample[np.isfinite(sample)]) for sample in (a, b))
    levels = (np.arange(200) + 0.5) / 200
    return float(np.abs(np.quantile(a, levels) - np.quantile(b, levels)).mean() / b.std())


def object_outlines(images: Sequence[Rgb] | NDArray[np.uint8]) -> DoubleFloats:
    """`object_outline` of several images.

    Args:
        images: n images, uint8 (96, 96, 3).

    Returns:
        float64 (n, MEASURES).
    """
    return np.stack([object_outline(image) for image in images])


def rendered_outlines(spec: Spec, count: int, seed: int) -> DoubleFloats:
    """The outlines of renderings of a meaning.

    Args:
        spec: The meaning.
        count: Number of renderings.
        seed: Seed of the renderings.

    Returns:
        float64 (count, MEASURES).
    """
    rng = np.random.default_rng(seed)
    return object_outlines([paint(sketch_of(spec, rng)).image for _ in range(count)])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.variety", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="captions of the swap test, each with its swap")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="images of each prompt")
    args = parser.parse_args()
    began = time.monotonic()
    right, right_renderings, count = swap_test(load_judge(WEIGHTS / "judge.safetensors"), args.pairs)
    low, high = proportion_interval(right, count)
    print(f"{STEPS} steps, guidance {GUIDANCE}")
    print("| measure | correct | 95 % interval | cases | required | judge on renderings |")
    print("|---|---|---|---|---|---|")
    print(
        f"| swap | {right / count:.1%} | {low:.1%} to {high:.1%} | {count} | {REQUIRED:.0%} | "
        f"{right_renderings / count:.1%} |"
    )
    print()
    print("| prompt | measure | spread | of renderings | distance | of two sets of renderings |")
    print("|---|---|---|---|---|---|")
    for spec in VARIED:
        text = caption(spec, np.random.default_rng(0)).text
        generated = object_outlines(generate([text] * args.seeds))
        truth, repeated = (rendered_outlines(spec, args.seeds, seed) for seed in (0, 1))
        for index, name in enumerate(MEASURES):
            values, reference, other = generated[:, index], truth[:, index], repeated[:, index]
            distances = [relative_distance(sample, reference) for sample in (values, other)]
            spreads = f"{np.nanstd(values):.2f} | {np.nanstd(reference):.2f}"
            print(f"| {text} | {name} | {spreads} | {distances[0]:.2f} | {distances[1]:.2f} |")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
