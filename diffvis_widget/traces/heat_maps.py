"""Heat maps of the words of one text over a run: of the prompt, or of the negative prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import choice, shorten, whole_number

from .resize import mean_maps, resize
from .selectors import pick_frame, pick_layers, pick_steps, pick_words
from .types import Floats, FrameSelection, Keep, Layer, MapKind, Size, StepMaps, StepSelection, Word


class WordMaps:
    """The heat maps of the words of one text, by step, layer and head.

    Args:
        words: the words of the text.
        layers: the traced layers.
        keep: what of the maps was kept, "words", "layers" or "heads".
        per_step: gives the attention maps of each finished step.
        outputs: gives the output-space maps of each finished step; None where there are none of this text.
        refined: gives the refined maps of each finished step; None where there are none of this text.

    Example:
        >>> maps = np.full((1, 1, 2, 2), 0.5, np.float16)
        >>> word_maps = WordMaps([Word("a", (1,), "word")], [Layer("mid", "cross", 1, (2, 2), True)], "layers",
        ...                      lambda: [(maps,)])
        >>> word_maps.heat_map("a").tolist()
        [[0.5, 0.5], [0.5, 0.5]]
        >>> word_maps.heat_map("a", step=slice(0, 10)).shape  # the mean over the first ten steps
        (2, 2)
    """

    def __init__(
        self,
        words: Sequence[Word],
        layers: Sequence[Layer],
        keep: Keep,
        per_step: Callable[[], Sequence[StepMaps]],
        outputs: Callable[[], Sequence[StepMaps]] | None = None,
        refined: Callable[[], Sequence[StepMaps]] | None = None,
    ) -> None:
        self.words = list(words)
        self.layers = list(layers)
        self.keep: Keep = keep
        self._per_step = per_step
        self._outputs = outputs
        self._refined = refined

    def __repr__(self) -> str:
        return f"WordMaps({len(self.words)} words, {len(self.layers)} layers)"

    @property
    def step_count(self) -> int:
        """Number of finished steps."""
        return len(self._per_step())

    def heat_map(
        self,
        word: str | int | Sequence[str | int],
        step: StepSelection | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | None = None,
        kind: MapKind = "probability",
        among: Sequence[str | int] | None = None,
        frame: FrameSelection = None,
    ) -> Floats:
        """Computes the heat map of a word: attention probabilities without display scaling.

        Args:
            word: a text of the prompt in any case (all its occurrences summed), an index into `words` (one
                occurrence), or a list of these (their sum).
            step: index of a step, or a slice or list of them (their mean); None is the mean over all steps.
            layer: a name, an index, a list of these, "all", or None for the mean over the default layers.
            head: index of a head (needs keep="heads"); None is the mean over heads.
            size: (h, w) to resize to; None is the layer's own grid, or the finest of several.
            kind: "probability", or "output" where it was traced (`Tracer(pipe, output=True)`): similarity of the
                attention outputs of image position and word, a mean of products over channels, of either sign.
                ConceptAttention (arXiv 2502.04320) takes the softmax of these over a set of words, times the number
                of channels.
                "refined" follows objects best: the probabilities of the default layers, averaged twice over the image
                tokens that each token attends to in self-attention, relative to their mean, squared, and again relative
                to their mean, so that 1 is an average position. Colours outside the prompt of a U-Net compete with all
                colours: each map is weighted by its share. In the built-in model objects outside the prompt do too, and
                settings compete with objects: their share is refined. It needs layer=None and head=None. In output
                space and in refined maps, several words or occurrences are averaged and not summed.
            among: words that compete for each position, as for `word`: the result is the share of `word` among these
                and the rest, 0..1. For probabilities, the rest are the other typed words of the prompt; for refined
                maps, a word that is everywhere as strong as on average.
            frame: of a video, the index of a latent frame, "all", or None for the mean over frames.

        Returns:
            float32 (h, w), with frame="all" (frames, h, w); 0..1 for probabilities and shares, 0 or more with a mean of
            1 for refined maps.

        Raises:
            KeyError: there is no such word or layer; the message lists those that there are.
            IndexError: there is no such step or head.
            ValueError: the layer, the head or the kind was not kept, or `among` is no list of words.
            TypeError: an argument has a wrong type.
        """
        chosen = pick_words(self.words, word)
        if among is None:
            maps = self.heat_maps(step=step, layer=layer, head=head, size=size, kind=kind, frame=frame)
            return _combine(maps[chosen], kind)
        target = check_size(size)
        competing = self._competing(among, chosen, kind)
        maps = self.heat_maps(step=step, layer=layer, head=head, kind=kind, frame=frame)
        strength = _combine(maps[chosen], kind)
        total = strength + sum((_combine(maps[words], kind) for words in competing), np.float32(0))
        if kind == "refined":
            total = total + np.float32(1)  # the rest is everywhere as strong as the mean
        else:
            competitors = {index for words in (chosen, *competing) for index in words}
            typed = [index for index, word in enumerate(self.words) if word.kind == "word" and word.tokens]
            total = total + maps[[index for index in typed if index not in competitors]].sum(axis=0)
        share = np.asarray(strength / np.maximum(total, np.finfo(np.float32).tiny), dtype=np.float32)
        return share if target is None else resize(share, target)

    def _competing(self, among: Any, chosen: list[int], kind: MapKind) -> list[list[int]]:
        """The other words of a competition, without the chosen one."""
        if kind == "output":
            raise ValueError(
                'among needs kind="probability" or kind="refined": scores in output space have either sign'
            )
        if not isinstance(among, list | tuple) or not among:
            raise ValueError(
                f"among must be a list of words, such as ['circle', 'square'], not {shorten(cast(object, among))}"
            )
        try:
            words = [pick_words(self.words, part) for part in cast("Sequence[Any]", among)]
        except TypeError as error:
            raise TypeError(f"among: {error}") from None
        return [indices for indices in words if not set(indices) & set(chosen)]

    def heat_maps(
        self,
        step: StepSelection | None = None,
        layer: str | int | Sequence[str | int] | None = None,
        head: int | None = None,
        size: Size | None = None,
        kind: MapKind = "probability",
        frame: FrameSelection = None,
    ) -> Floats:
        """Computes the heat maps of all words; see `heat_map`.

        Args:
            step: index of a step, or a slice or list of them (their mean); None is the mean over all steps.
            layer: a name, an index, a list of these, "all", or None for the mean over the default layers.
            head: index of a head (needs keep="heads"); None is the mean over heads.
            size: (h, w) to resize to.
            kind: "probability", "output" or "refined".
            frame: of a video, the index of a latent frame, "all", or None for the mean over frames.

        Returns:
            float32 (len(words), h, w), with frame="all" (len(words), frames, h, w); NaN for truncated words, and in
            joint attention for padding, which is not traced.

        Raises:
            KeyError: there is no such layer.
            IndexError: there is no such step or head.
            ValueError: the layer, the head or the kind was not kept, or no step is finished.
            TypeError: an argument has a wrong type.
        """
        self._check_kind(kind)
        steps = self._pick_steps(step, kind)
        target = check_size(size)
        if kind == "refined":
            return self._refined_maps(steps, layer, head, target, frame)
        if not self.layers:
            raise ValueError("heat maps: this pipeline has no attention to words that can be read; `layers` is empty")
        if self.keep == "words":
            if layer is not None or head is not None:
                raise ValueError(
                    'layer and head need a trace kept with keep="layers" or keep="heads"; this has "words"'
                )
            indices = [0]
        else:
            indices = pick_layers(self.layers, layer)
        if head is not None:
            head = self._check_head(head, indices)
        maps: list[Floats] = []
        for index in indices:
            per_step = [_of_frame(_over_heads(maps[index], head), frame) for maps in steps]
            computed = [part for part in per_step if not np.isnan(part).all()] or per_step[:1]
            maps.append(_over_steps(computed))
        single = len(maps) == 1
        result = maps[0] if single else mean_maps(maps, target)
        if single and target is not None:
            result = resize(result, target)
        result = np.array(result, dtype=np.float32)
        return self._without_truncated(result)

    def _refined_maps(
        self, steps: Sequence[StepMaps], layer: Any, head: Any, target: Size | None, frame: FrameSelection
    ) -> Floats:
        if layer is not None or head is not None:
            raise ValueError('kind="refined" is made of the default layers and all heads: leave out layer and head')
        maps = _over_steps([_of_frame(maps[0].astype(np.float32), frame) for maps in steps])
        return self._without_truncated(np.array(maps if target is None else resize(maps, target), dtype=np.float32))

    def _without_truncated(self, maps: Floats) -> Floats:
        maps[[index for index, word in enumerate(self.words) if not word.tokens]] = np.nan
        return maps

    def _check_kind(self, kind: Any) -> None:
        choice("kind", kind, get_args(MapKind))
        if kind == "probability":
            return
        if kind == "refined":
            if self._refined is None:
                raise ValueError(
                    'kind="refined" is traced for the words of the prompt, not for those of the negative prompt; use '
                    'kind="probability"'
                )
            if self._per_step() and not self._refined():
                raise ValueError(
                    'kind="refined" is not there: the self-attention of this pipeline could not be read (linear '
                    "attention, as in Sana, has no attention probabilities), or the file was saved by an earlier "
                    'version; use kind="probability"'
                )
            return
        if self._outputs is None:
            raise ValueError(
                'kind="output" is traced for the words of the prompt, not for those of the negative prompt; use '
                'kind="probability"'
            )
        if any(layer.kind == "cross" for layer in self.layers):
            raise ValueError(
                'kind="output" is not there: in cross-attention words have no attention output; use kind="probability"'
            )
        if self._per_step() and not self._outputs():
            raise ValueError(
                'kind="output" was not traced: trace again with output=True, as in Tracer(pipe, output=True)'
            )

    def _pick_steps(self, step: StepSelection | None, kind: MapKind) -> Sequence[StepMaps]:
        source = {"output": self._outputs, "refined": self._refined}.get(kind) or self._per_step
        steps = source()
        if not steps:
            raise ValueError("heat maps: no step of this trace is finished yet")
        return [steps[index] for index in pick_steps(len(steps), step)]

    def _check_head(self, head: int, layers: list[int]) -> int:
        if self.keep != "heads":
            raise ValueError(f'head needs a trace kept with keep="heads"; this one has keep="{self.keep}"')
        index = _index("head", head)
        fewest = min(self.layers[layer].heads for layer in layers)
        if not 0 <= index < fewest:
            raise IndexError(f"head {shorten(index)} is out of range: the chosen layers have heads 0 to {fewest - 1}")
        return index


def _combine(maps: Floats, kind: MapKind) -> Floats:
    """The map of several words, float32 (h, w)."""
    return maps.sum(axis=0) if kind == "probability" else maps.mean(axis=0)


def _over_steps(parts: Sequence[Floats]) -> Floats:
    """Mean over steps; a word that an intervention put in for some steps is averaged over these."""
    mean = np.asarray(np.mean(parts, axis=0, dtype=np.float32))
    if len(parts) > 1 and np.isnan(mean).any():
        present = ~np.isnan(parts)
        sums = np.where(present, parts, 0).sum(axis=0, dtype=np.float32)
        mean = np.where(present.any(axis=0), sums / np.maximum(present.sum(axis=0), 1), np.nan).astype(np.float32)
    return mean


def _over_heads(maps: NDArray[np.float16], head: int | None) -> Floats:
    if head is not None:
        return maps[head].astype(np.float32)
    return maps[0].astype(np.float32) if len(maps) == 1 else maps.mean(axis=0, dtype=np.float32)


def _of_frame(maps: Floats, frame: FrameSelection) -> Floats:
    """The maps (words, h, w) of a frame, or of an image; with "all", (words, frames, h, w)."""
    frames = maps if maps.ndim == 4 else maps[:, None]
    chosen = pick_frame(frames.shape[1], frame)
    if chosen == "all":
        return frames
    if chosen is not None:
        return frames[:, chosen]
    return frames.mean(axis=1, dtype=np.float32) if maps.ndim == 4 else maps


def _index(name: str, value: Any) -> int:
    number = whole_number(value)
    if number is None:
        raise TypeError(f"{name} must be an integer, not {shorten(value)}")
    return number


def check_size(size: Any) -> Size | None:
    """Checks the size of a map.

    Args:
        size: (height, width), each 1 to 8192; None for any.

    Returns:
        The size.

    Raises:
        TypeError: it is no pair of integers.
        ValueError: it is out of range.
    """
    if size is None:
        return None
    try:
        height, width = size
    except (TypeError, ValueError):
        raise TypeError(f"size must be (height, width), not {shorten(size)}") from None
    height, width = _index("size", height), _index("size", width)
    if not (1 <= height <= 8192 and 1 <= width <= 8192):
        raise ValueError(f"size must be between 1 and 8192 in each direction, not {shorten((height, width))}")
    return height, width
