"""Compares two runs: which words changed, how far apart the runs are at each step, and where they diverge.

It needs traces and numpy only, so that two opened files compare as two live runs do.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import choice, row_index
from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .heat_maps import check_size
from .html_summary import MAX_PNG, CurveRow, card, curve_table, final_thumbnail, last, number, side_by_side, text
from .noise import is_flow_matching, lacks_noise_levels
from .resize import finest, resize
from .trace import Trace
from .types import Floats, FrameSelection, Size, Word

Align = Literal["index", "noise"]
Change = Literal["same", "replaced", "removed", "added"]
DIVERGED = 0.5
"""Two runs have diverged where their predictions differ by half of what two seeds of one prompt differ in the end.

In units of the spread of the final predictions, two seeds of the scenes model differ by 1.04 on average (10 prompts,
0.61 to 1.29; `python -m benchmarks.divergence_threshold --seeds`). Of runs that differ in the weight of their words, a
detector finds the same objects in 9 of 15 pairs between 0.1 and 0.5, and in one of 28 beyond (the same command without
`--seeds`)."""


@dataclass(frozen=True)
class WordPair:
    """A word of one prompt and its counterpart in the other.

    Attributes:
        a: index into the words of the first trace; None for an added word.
        b: index into the words of the second trace; None for a removed word.
        change: "same", "replaced", "removed" or "added".
    """

    a: int | None
    b: int | None
    change: Change


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(ResultValue):
    """Differences between two runs.

    Attributes:
        a: the first trace.
        b: the second trace.
        steps: int64 (N, 2), the compared pairs (step of a, step of b).
        words: the P pairs of words, in the order of the prompts.
        distance: float32 (N,), root mean square difference of the predicted clean latents over the spread of the final
            ones (root mean square about each channel's mean, of both runs): 0 for equal runs, about 1.4 for images that
            have nothing in common.
        threshold: the distance above which runs have diverged: half of what two seeds of one prompt differ in the end.
        divergence_step: first row of ``steps`` from which the distance stays above ``threshold``; None if the runs end
            closer than that.
        maps: float32 (N, P), total variation distance 0..1 of the heat maps of each pair of words (half the sum of
            absolute differences, each map with sum 1); NaN where a word has no map or no counterpart.
        image: float32 (H, W), 0..1, mean absolute difference over the colours of the final images, and over the frames
            of videos; None where their sizes differ.

    Example:
        >>> from diffvis_widget.traces import Record, Step
        >>> latents = np.ones((4, 2, 2), np.float32)
        >>> record = Record(Step(0, 999.0, 14.6), latents, latents, latents, None, 1.0, ())
        >>> trace = Trace(prompt="a circle", negative_prompt=None, words=[], layers=[], keep="layers", meta={},
        ...               records=[record], image=np.zeros((8, 8, 3), np.uint8))
        >>> compare(trace, trace).distance.tolist()
        [0.0]
    """

    a: Trace
    b: Trace
    steps: NDArray[np.int64]
    words: list[WordPair]
    distance: Floats
    threshold: float
    divergence_step: int | None
    maps: Floats
    image: Floats | None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.distance, dtype, copy)

    def _repr_html_(self) -> str:
        diverge = (
            "never diverge"
            if self.divergence_step is None
            else f"diverge at step {step_number(self.steps[self.divergence_step, 0])} of a"
        )
        images = "" if self.image_difference is None else f"image difference {number(self.image_difference)}"
        changed = sum(pair.change != "same" for pair in self.words)
        facts = (f"{len(self.steps)} steps", diverge, images, f"words changed: {changed}")
        runs = [
            final_thumbnail(trace, f"{name}: final image", MAX_PNG // 2) + text(f"{name}: {trace.prompt}", 300)
            for name, trace in (("a", self.a), ("b", self.b))
        ]
        rows = [CurveRow("distance", self.distance, (last(self.distance),))]
        return card("Comparison", facts, side_by_side(*runs), curve_table(("", "a to b", "last"), rows))

    def to_pandas(self) -> Any:
        """Makes a table of the compared steps and their distances. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame({"a": self.steps[:, 0], "b": self.steps[:, 1], "distance": self.distance})

    @property
    def image_difference(self) -> float | None:
        """Mean of ``image``; None where the sizes of the images differ."""
        return None if self.image is None else float(self.image.mean())

    def map_difference(
        self, pair: int, step: int | None = None, size: Size | None = None, frame: FrameSelection = None
    ) -> Floats:
        """Computes the difference of attention probability of a pair of words, b minus a.

        Args:
            pair: index into ``words``.
            step: row of ``steps``; None is the mean over each run's own steps.
            size: (h, w) of the result; None is the finer of the two grids.
            frame: of videos, the index of a latent frame, "all", or None for the mean over frames.

        Returns:
            float32 (h, w), -1..1; with frame="all", (frames, h, w).

        Raises:
            TypeError: an argument has a wrong type.
            IndexError: there is no such pair or step.
            ValueError: the word is in one prompt only.
        """
        pair = row_index("pair", pair, len(self.words))
        words = self.words[pair]
        if words.a is None or words.b is None:
            raise ValueError(f"pair {pair} is a word of one prompt alone ({words.change}): there is nothing to compare")
        step = None if step is None else row_index("step", step, len(self.steps))
        rows = (None, None) if step is None else (int(self.steps[step, 0]), int(self.steps[step, 1]))
        maps = [
            trace.heat_maps(step=row, frame=frame)[word]
            for trace, row, word in zip((self.a, self.b), rows, (words.a, words.b), strict=True)
        ]
        target = check_size(size) or finest([(int(part.shape[-2]), int(part.shape[-1])) for part in maps])
        first, second = (resize(part, target) for part in maps)
        return second - first


def compare(trace_a: Trace, trace_b: Trace, align: Align = "index") -> Comparison:
    """Compares two runs of different prompts, seeds, schedules or models, live or from files.

    Args:
        trace_a: the first run.
        trace_b: the second run.
        align: "index" compares step k with step k, for two runs of the same schedule; "noise" compares every step of a
            with the step of b whose noise level is nearest (in the logarithm of `Step.sigma`), for two schedules, whose
            noise levels differ at the same index.

    Returns:
        The comparison.

    Raises:
        TypeError: an argument is no Trace.
        ValueError: a trace has no step, or the traces have latents of different shapes, different numbers of steps
            where they are compared by index, or noise levels of different scales (flow matching and not).

    Example:
        >>> from diffvis_widget.traces import Record, Step
        >>> latents = np.ones((4, 2, 2), np.float32)
        >>> record = Record(Step(0, 999.0, 14.6), latents, latents, latents, None, 1.0, ())
        >>> trace = Trace(prompt="a circle", negative_prompt=None, words=[], layers=[], keep="layers", meta={},
        ...               records=[record], image=np.zeros((8, 8, 3), np.uint8))
        >>> compare(trace, trace).divergence_step is None
        True
    """
    for name, trace in (("trace_a", trace_a), ("trace_b", trace_b)):
        if not isinstance(trace, Trace):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{name} must be a Trace, not {type(trace).__name__}")
        if not trace.steps:
            raise ValueError(f"{name} has no finished step: wait for its run")
    choice("align", align, ("index", "noise"))
    shapes = [trace.records[0].prediction.shape for trace in (trace_a, trace_b)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"the runs have latents of shape {shapes[0]} and {shapes[1]}: make them with the same height and width, by "
            "models with the same latents"
        )
    steps = _aligned(trace_a, trace_b, align)
    first, second = (trace.predictions.astype(np.float32) for trace in (trace_a, trace_b))
    distance = _distance(first, second, steps)
    words = _pairs(trace_a.words, trace_b.words)
    return Comparison(
        a=trace_a,
        b=trace_b,
        steps=steps,
        words=words,
        distance=distance,
        threshold=DIVERGED,
        divergence_step=_divergence_step(distance),
        maps=_maps(trace_a, trace_b, words, steps),
        image=_image(trace_a, trace_b),
    )


def _aligned(a: Trace, b: Trace, align: Align) -> NDArray[np.int64]:
    counts = len(a.steps), len(b.steps)
    if align == "index":
        if counts[0] != counts[1]:
            raise ValueError(
                f"the runs have {counts[0]} and {counts[1]} steps: make them with the same number, or compare them by "
                'noise level with align="noise"'
            )
        return np.stack([np.arange(counts[0])] * 2, axis=1)
    if any(lacks_noise_levels(trace.meta) for trace in (a, b)):
        raise ValueError('align="noise": the noise levels of a run are not known; compare runs of the same length')
    kinds = [is_flow_matching(trace.meta) for trace in (a, b)]
    if kinds[0] != kinds[1]:
        raise ValueError("one run is of flow matching and the other not: their noise levels are on different scales")
    levels = [np.log(np.clip(trace.sigmas.astype(np.float64), 1e-6, 1e6)) for trace in (a, b)]
    nearest = np.abs(levels[0][:, None] - levels[1][None]).argmin(axis=1)
    return np.stack([np.arange(counts[0]), nearest], axis=1)


def _distance(first: Floats, second: Floats, steps: NDArray[np.int64]) -> Floats:
    ends: Floats = np.stack([first[-1], second[-1]])
    means: Floats = np.mean(ends, axis=tuple(range(2, ends.ndim)), keepdims=True)
    spread = float(np.sqrt(np.mean(np.square(np.subtract(ends, means)))))
    difference: Floats = np.subtract(first[steps[:, 0]], second[steps[:, 1]])
    squares: Floats = np.mean(np.square(difference), axis=tuple(range(1, difference.ndim)))
    return (np.sqrt(squares) / max(spread, 1e-12)).astype(np.float32)


def _divergence_step(distance: Floats) -> int | None:
    """The first step from which on the distance stays above the threshold; None without predicted latents."""
    if np.isnan(distance).any():
        return None
    below = np.flatnonzero(distance <= DIVERGED)
    first = int(below[-1]) + 1 if len(below) else 0
    return first if first < len(distance) else None


def _pairs(a: Sequence[Word], b: Sequence[Word]) -> list[WordPair]:
    """Words of two prompts by a diff of their texts, text encoder by text encoder; special tokens and padding too."""
    pairs: list[WordPair] = []
    for encoder in dict.fromkeys(word.encoder for word in (*a, *b)):
        sides = [[index for index, word in enumerate(part) if word.encoder == encoder] for part in (a, b)]
        keys = [
            [(words[index].text.casefold(), words[index].kind) for index in indices]
            for words, indices in zip((a, b), sides, strict=True)
        ]
        for tag, start, end, begin, stop in difflib.SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
            left: list[int] = sides[0][start:end]
            right: list[int] = sides[1][begin:stop]
            shared = min(len(left), len(right))
            change: Change = "same" if tag == "equal" else "replaced"
            pairs += [WordPair(i, j, change) for i, j in zip(left[:shared], right[:shared], strict=True)]
            pairs += [WordPair(i, None, "removed") for i in left[shared:]]
            pairs += [WordPair(None, j, "added") for j in right[shared:]]
    return pairs


def _maps(a: Trace, b: Trace, words: Sequence[WordPair], steps: NDArray[np.int64]) -> Floats:
    result = np.full((len(steps), len(words)), np.nan, dtype=np.float32)
    both = [index for index, pair in enumerate(words) if pair.a is not None and pair.b is not None]
    if not (a.layers and b.layers and both):
        return result
    left = [word for pair in words if (word := pair.a) is not None and pair.b is not None]
    right = [word for pair in words if (word := pair.b) is not None and pair.a is not None]
    latest: dict[int, Floats] = {}
    for row, (first, second) in enumerate(steps.tolist()):
        if second not in latest:
            latest = {second: b.heat_maps(step=second, frame="all")[right]}
        maps = [a.heat_maps(step=first, frame="all")[left], latest[second]]
        target = finest([(int(part.shape[-2]), int(part.shape[-1])) for part in maps])
        resized = [resize(part, target) for part in maps]
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [part / part.sum(axis=(1, 2, 3), keepdims=True) for part in resized]
        result[row, both] = 0.5 * np.abs(shares[0] - shares[1]).sum(axis=(1, 2, 3))
    return result


def _image(a: Trace, b: Trace) -> Floats | None:
    first, second = (trace.image[None] if trace.video is None else trace.video for trace in (a, b))
    if first.shape != second.shape:
        return None
    total = np.zeros(first.shape[1:3], np.float32)
    for image, other in zip(first, second, strict=True):  # frame by frame: a video takes much memory as float32
        total += np.abs(image.astype(np.float32) - other.astype(np.float32)).mean(axis=-1) / 255
    return total / np.float32(len(first))
