"""How relevant the words of a prompt were at each step of a run, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffvis_widget.traces.resize import Floats

from .saliency import scale

if TYPE_CHECKING:
    from diffvis_widget.traces.trace import Word


@dataclass(frozen=True)
class WordRelevance:
    """Relevance of the W words of a trace at each of T steps: of its own run, or of the same under another schedule.

    schedule: of the steps, "uniform", "early" or "late". timesteps: float32 (T,). raw: float32 (T, W), >= 0; NaN for
    words that were cut off. maps: float32 (T, W, h, w), where on the picture it lies, with `raw` as sums over h and w;
    None where that was not kept.
    """

    schedule: str
    timesteps: Floats
    raw: Floats
    maps: Floats | None = None

    def scaled(self, words: Sequence[Word]) -> Floats:
        """float32 (T, W), 0..1: `raw` min-max scaled over the typed words of each step; NaN for all other words.

        words: those of the trace.
        """
        return scaled(self.raw, words)


def typed(words: Sequence[Word]) -> list[int]:
    """Indices of the words that were typed and that the model read: those that are compared with one another."""
    return [index for index, word in enumerate(words) if word.kind == "word" and word.tokens]


def scaled(raw: Floats, words: Sequence[Word]) -> Floats:
    """Relevance (T, W) min-max scaled over the typed words of each step; see `WordRelevance.scaled`."""
    chosen = typed(words)
    found = np.full_like(raw, np.nan)
    for step, row in enumerate(raw[:, chosen] if chosen else ()):
        found[step, chosen] = scale(row)
    return found
