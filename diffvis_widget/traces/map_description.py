"""Describes a heat map in numbers: what it averages, how focused it is, and which maps resemble it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvis_widget.step_numbers import step_number

from .heat_maps import WordMaps
from .html_summary import card, number, text
from .selectors import pick_layers, pick_steps, pick_words
from .types import Floats, MapKind, Size, StepSelection
from .values import ResultValue

SAME = 0.95
"""Correlation from which two maps count as nearly the same."""
SHARE = ", as a share among the words that the word excludes"
_OTHERS = 3  # words whose maps are compared in the description
_TOKENS_OF_THE_TEXT = ("special", "template", "padding")
_ADVICE = 'See "Heat maps" in "What to trust" (docs/pages/trust.md).'


@dataclass(frozen=True, eq=False, repr=False)
class MapDescription(ResultValue):
    """What a word's heat map averages, and what it looks like in numbers. `print` shows it in sentences.

    Attributes:
        word: The word, or the words joined by spaces.
        kind: "probability", "output" or "refined".
        steps: Indices of the steps that are averaged.
        layers: Names of the layers that are averaged; for refined maps, those of the probabilities.
        head: Index of the only head; None where all heads of a layer are averaged.
        grid: (h, w) of the map.
        entropy: 0..1, Shannon entropy of the map as a distribution over the positions, relative to its maximum: 1 for
            a flat map, 0 for a single position. NaN for a map of zeros, or with values below 0 (output space).
        contrast: Largest value over the mean, 1 for a flat map; NaN as for entropy.
        word_share: 0..1, share of the attention to the text tokens that goes to this word, the mean over positions,
            steps and layers. In joint attention padding is not traced and not counted.
        special_share: 0..1, share that goes to special, padding and template tokens.
        others: Other words and the correlation of their maps with this one (Pearson, over positions), the highest
            first, at most three; only typed words.
        is_share: Whether what is refined is the word's share among words that it excludes: a setting's among the
            objects of the built-in model.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> description = trace.describe_map("circle")
        >>> description.steps, description.grid, description.others[0][0]
        ((0, 1), (12, 12), 'red')
    """

    word: str
    kind: MapKind
    steps: tuple[int, ...]
    layers: tuple[str, ...]
    head: int | None
    grid: Size
    entropy: float
    contrast: float
    word_share: float
    special_share: float
    others: tuple[tuple[str, float], ...]
    is_share: bool

    @property
    def nearly_same(self) -> tuple[str, ...]:
        """The other words whose maps correlate with this one by 0.95 or more."""
        return tuple(word for word, correlation in self.others if correlation >= SAME)

    def __str__(self) -> str:
        return "\n".join([f"Heat map of {self.word!r}", *self.sentences(), _ADVICE])

    def _repr_html_(self) -> str:
        facts = (self.word, self.kind, f"{self.grid[0]} × {self.grid[1]}")
        return card("Heat map", facts, *(text(sentence, 200) for sentence in (*self.sentences(), _ADVICE)))

    def sentences(self) -> list[str]:
        """Says in sentences what the map averages and what it looks like.

        Returns:
            The sentences.
        """
        first, last = step_number(self.steps[0]), step_number(self.steps[-1])
        steps = f"step {first}" if len(self.steps) == 1 else f"{len(self.steps)} steps, {first} to {last}"
        layers = f"layer {self.layers[0]}" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        heads = "all heads" if self.head is None else f"head {self.head}"
        kinds = {
            "probability": "Attention probabilities",
            "refined": f"Attention probabilities{SHARE if self.is_share else ''}, refined by self-attention",
            "output": "Scores in output space",
        }
        lines = [f"{kinds[self.kind]}: mean of {steps}, {layers} and {heads}, on {self.grid[0]} x {self.grid[1]}."]
        if np.isfinite(self.entropy):
            lines.append(
                f"Entropy {self.entropy:.0%} of that of a flat map; the largest value is {number(self.contrast)} times "
                "the mean."
            )
        lines.append(
            f"Of the attention to the text, {self.word_share:.1%} goes to this word and {self.special_share:.0%} to "
            "special tokens."
        )
        if self.others:
            word, correlation = self.others[0]
            if self.nearly_same:
                same = ", ".join(repr(other) for other in self.nearly_same)
                lines.append(f"Nearly the same as the map of {same} (correlation {correlation:.2f}).")
            else:
                lines.append(f"The most similar map is that of {word!r} (correlation {correlation:.2f}).")
        return lines


def describe_map(
    maps: WordMaps,
    word: str | int | Sequence[str | int],
    step: StepSelection | None,
    layer: str | int | Sequence[str | int] | None,
    head: int | None,
    kind: MapKind,
    among: Sequence[str | int] | None,
    shares: Sequence[str] = (),
) -> MapDescription:
    """Describes a heat map; see `Trace.describe_map`.

    Args:
        maps: The maps of the words.
        word: As for `WordMaps.heat_map`.
        step: As for `WordMaps.heat_map`.
        layer: As for `WordMaps.heat_map`.
        head: As for `WordMaps.heat_map`.
        kind: As for `WordMaps.heat_map`.
        among: As for `WordMaps.heat_map`.
        shares: Words whose refined maps are of their share.

    Returns:
        The description.
    """
    heat = maps.heat_map(word, step=step, layer=layer, head=head, kind=kind, among=among)
    chosen = pick_words(maps.words, word)
    entropy, contrast = _spread(heat)
    means = maps.heat_maps(step=step, layer=layer, head=head).mean(axis=(1, 2), dtype=np.float64)
    total = float(np.nansum(means))
    special = [index for index, other in enumerate(maps.words) if other.kind in _TOKENS_OF_THE_TEXT]
    return MapDescription(
        word=" ".join({name.casefold(): name for name in (maps.words[index].text for index in chosen)}.values()),
        kind=kind,
        steps=tuple(pick_steps(maps.step_count, step)),
        layers=tuple(maps.layers[index].name for index in pick_layers(maps.layers, layer)),
        head=None if head is None else int(head),
        grid=(int(heat.shape[0]), int(heat.shape[1])),
        entropy=entropy,
        contrast=contrast,
        word_share=float(np.nansum(means[chosen])) / total if total > 0 else float("nan"),
        special_share=float(np.nansum(means[special])) / total if total > 0 else float("nan"),
        others=_correlations(maps, chosen, maps.heat_maps(step=step, layer=layer, head=head, kind=kind), kind),
        is_share=kind == "refined" and any(maps.words[index].text in shares for index in chosen),
    )


def _spread(heat: Floats) -> tuple[float, float]:
    """Entropy relative to its maximum, and the largest value over the mean."""
    values = heat.astype(np.float64).ravel()
    total = float(values.sum())
    if not total > 0 or values.min() < 0 or len(values) < 2:
        return float("nan"), float("nan")
    shares = values / total
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum() / np.log(len(values))), float(values.max() / values.mean())


def _correlations(maps: WordMaps, chosen: list[int], plain: Floats, kind: MapKind) -> tuple[tuple[str, float], ...]:
    """The most similar maps of other typed words, word by word."""
    selected: Any = plain[chosen]
    heat = selected.sum(axis=0) if kind == "probability" else selected.mean(axis=0)
    pairs = [
        (word.text, _correlation(heat, plain[index]))
        for index, word in enumerate(maps.words)
        if word.kind == "word" and word.tokens and index not in chosen
    ]
    defined = [pair for pair in pairs if np.isfinite(pair[1])]
    return tuple(sorted(defined, key=lambda pair: -pair[1])[:_OTHERS])


def _correlation(first: Floats, second: Floats) -> float:
    a, b = (part.astype(np.float64).ravel() - part.mean(dtype=np.float64) for part in (first, second))
    lengths = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / lengths if lengths > 0 else float("nan")
