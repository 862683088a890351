"""Whether the scenes model keeps words apart, and whether its images vary.

Run it as `python -m diffvis_widget.scenes.evaluation.variety`.

Swap test: a red circle and a blue square is not a blue circle and a red square. Diversity: where a thing stands in many
pictures of one prompt, how large and how wide it is, beside many renderings of the same prompt.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.render import Rgb, paint, sketch_of
from diffvis_widget.scenes.world import Spec, Thing, caption, sample_spec

from .captions import GUIDANCE, STEPS, generate, interval
from .judge import Judge, Verdict, load_judge

PAIRS, SEEDS = 100, 64
SWAP_BAR = 0.95
# Each on plain paper, where a thing's outline can be read off the picture.
VARIED = (
    Spec((Thing("circle", "red"),)),
    Spec((Thing("fish", "blue"),)),
    Spec((Thing("star", "green", texture="striped"),)),
    Spec((Thing("house", "purple"),)),
)
MEASURES = ("x", "y", "size", "stretch")
_UNLIKE = 60.0  # distance of a pixel's colour from the paper's, of 442, from which on it belongs to a thing

Floats = NDArray[np.float64]


def swaps(count: int) -> Iterator[tuple[Spec, Spec]]:
    """Held-out meanings of two things of different shapes and colours, each with that of the colours exchanged."""
    rng = np.random.default_rng(2_000_000)
    found = 0
    while found < count:
        spec = sample_spec(rng, held_out=True)
        if len(spec.things) != 2:
            continue
        a, b = spec.things
        if a.shape == b.shape or a.colour == b.colour or a.colour is None or b.colour is None:
            continue
        found += 1
        yield spec, exchanged(spec)


def exchanged(spec: Spec) -> Spec:
    """The same two things with their colours exchanged."""
    a, b = spec.things
    return replace(spec, things=(replace(a, colour=b.colour), replace(b, colour=a.colour)))


def kept_apart(spec: Spec, verdict: Verdict) -> bool:
    """Whether the picture has more of the caption's pairs of shape and colour than of the exchanged caption's."""
    seen = {(sighting.thing.shape, sighting.thing.colour) for sighting in verdict.sightings}
    own, other = (sum((thing.shape, thing.colour) in seen for thing in one.things) for one in (spec, exchanged(spec)))
    return own > other


def swap_test(judge: Judge, pairs: int) -> tuple[int, int, int]:
    """Right of the model's pictures, right of renderings, asked: every meaning and its exchange, from one seed."""
    specs = [spec for pair in swaps(pairs) for spec in pair]
    rng = np.random.default_rng(2_000_001)
    rendered = np.stack([paint(sketch_of(spec, rng)).image for spec in specs])
    # both captions of a pair are said with the same words and start from the same noise
    captions = [caption(spec, np.random.default_rng([2_000_002, i // 2])).text for i, spec in enumerate(specs)]
    firsts, seconds = generate(captions[::2]), generate(captions[1::2])
    pictures = np.stack([one for pair in zip(firsts, seconds, strict=True) for one in pair])
    right, trusted = (
        sum(kept_apart(spec, verdict) for spec, verdict in zip(specs, judge.look(images), strict=True))
        for images in (pictures, rendered)
    )
    return right, trusted, len(specs)


def outline(picture: Rgb) -> Floats:
    """Of the thing on plain paper: its centre x and y, the root of its area, all in pixels, and its width over height.

    The paper's colour is the median of the picture's edge. NaN where nothing stands out.
    """
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    unlike = np.linalg.norm(picture.astype(np.float64) - np.median(edge, axis=0), axis=2)
    rows, columns = np.nonzero(unlike > _UNLIKE)
    if len(rows) < 16:
        return np.full(len(MEASURES), np.nan)
    stretch = columns.std() / max(float(rows.std()), 1e-6)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5, np.sqrt(len(rows)), stretch])


def distance(a: Floats, b: Floats) -> float:
    """Wasserstein distance of two samples of one size, in standard deviations of the second; NaN counts as absent."""
    a, b = (np.sort(one[np.isfinite(one)]) for one in (a, b))
    levels = (np.arange(200) + 0.5) / 200
    return float(np.abs(np.quantile(a, levels) - np.quantile(b, levels)).mean() / b.std())


def outlines(pictures: Sequence[Rgb] | NDArray[np.uint8]) -> Floats:
    """float64 (n, MEASURES)."""
    return np.stack([outline(picture) for picture in pictures])


def rendered(spec: Spec, count: int, seed: int) -> Floats:
    """The outlines of so many renderings."""
    rng = np.random.default_rng(seed)
    return outlines([paint(sketch_of(spec, rng)).image for _ in range(count)])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.variety", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="captions of the swap test, each said both ways")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="pictures of each prompt")
    args = parser.parse_args()
    began = time.monotonic()
    right, trusted, asked = swap_test(load_judge(WEIGHTS / "judge.safetensors"), args.pairs)
    low, high = interval(right, asked)
    print(f"{STEPS} steps, guidance {GUIDANCE}")
    print("| measure | right | 95 % interval | asked | bar | judge on renderings |")
    print("|---|---|---|---|---|---|")
    print(
        f"| swap | {right / asked:.1%} | {low:.1%} to {high:.1%} | {asked} | {SWAP_BAR:.0%} | {trusted / asked:.1%} |"
    )
    print()
    print("| prompt | measure | spread | of renderings | distance | of two sets of renderings |")
    print("|---|---|---|---|---|---|")
    for spec in VARIED:
        text = caption(spec, np.random.default_rng(0)).text
        painted = outlines(generate([text] * args.seeds))
        truth, again = (rendered(spec, args.seeds, seed) for seed in (0, 1))
        for index, name in enumerate(MEASURES):
            own, real, other = painted[:, index], truth[:, index], again[:, index]
            print(
                f"| {text} | {name} | {np.nanstd(own):.2f} | {np.nanstd(real):.2f} | {distance(own, real):.2f} | "
                f"{distance(other, real):.2f} |"
            )
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
