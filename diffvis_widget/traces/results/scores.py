"""What a concept meter said about a run, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ConceptScores:
    """Scores of K concepts over T steps.

    concepts: the K words.
    cosine: float32 (T, K), -1..1, raw.
    share: float32 (T, K), softmax over the K concepts with the model's logit scale; says which of these words fits
        best, never whether any fits.
    null_band: float32 (T, 2), 5th and 95th percentile of the cosines of unrelated words: what any word scores.
    emergence: float32 (K,), the first step from which the concept stays above the midpoint of its first and last
        cosine; NaN where it never rises above the null band, or ends no higher than it began.
    meter: the name of the model that measured.
    """

    concepts: list[str]
    cosine: NDArray[np.float32]
    share: NDArray[np.float32]
    null_band: NDArray[np.float32]
    emergence: NDArray[np.float32]
    meter: str = ""
