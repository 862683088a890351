"""Calibration of a concept meter: from which score on a word is there, and below which it is not, at each noise level.

A cosine says little by itself: what a present word scores depends on the noise level of the step. A calibration turns
the height of the cosine above the null band into a probability (a logistic regression at each noise level, after
J. Platt, 1999), and says "present" or "absent" only where that was right nearly always on held-out images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class CalibratedLevel:
    """One noise level.

    Attributes:
        sigma: Noise over signal.
        slope: Of the logistic regression, per unit of cosine: the inverse of a temperature.
        offset: Its constant.
        present: The least probability at which a word is said to be present; None: never at this level.
        absent: The largest probability at which it is said to be absent; None: never.
    """

    sigma: float
    slope: float
    offset: float
    present: float | None
    absent: float | None

    def probability(self, height: Array) -> NDArray[np.float64]:
        """Compute the probability that a word is present.

        Args:
            height: The cosine minus the upper edge of the null band, of any shape.

        Returns:
            Probabilities 0..1 of the same shape.
        """
        return 1 / (1 + np.exp(-np.clip(self.slope * height.astype(np.float64) + self.offset, -60, 60)))


@dataclass(frozen=True)
class Calibration:
    """What a meter's scores mean at each noise level, for the words that were measured.

    Attributes:
        words: The words, in lower case; there is no verdict on others.
        levels: The noise levels, from the strongest noise to the weakest.
    """

    words: frozenset[str]
    levels: tuple[CalibratedLevel, ...]

    def present(self, concepts: Sequence[str], cosine: Array, null_band: Array, sigmas: Array) -> NDArray[np.float32]:
        """Decide for each concept at each step whether it is present.

        Args:
            concepts: K concepts.
            cosine: (T, K).
            null_band: (T, 2).
            sigmas: Noise over signal of each step, (T,); steps take the nearest level, by ratio.

        Returns:
            float32 (T, K): 1 present, 0 absent, NaN not sure.
        """
        result = np.full(cosine.shape, np.nan, dtype=np.float32)
        measured = [column for column, concept in enumerate(concepts) if concept.casefold() in self.words]
        logs = np.log([level.sigma for level in self.levels])
        for row, sigma in enumerate(np.asarray(sigmas, dtype=np.float64)):
            if np.isnan(sigma):
                continue
            level = self.levels[int(np.abs(logs - np.log(np.clip(sigma, 1e-6, 1e6))).argmin())]
            for column in measured:
                probability = float(level.probability(np.asarray(cosine[row, column] - null_band[row, 1])))
                if level.present is not None and probability >= level.present:
                    result[row, column] = 1
                elif level.absent is not None and probability <= level.absent:
                    result[row, column] = 0
        return result

    def to_json(self) -> str:
        """Describe the calibration as the text of a file, which `read` reads.

        Returns:
            JSON with the words and the levels.
        """
        content = {"words": sorted(self.words), "levels": [asdict(level) for level in self.levels]}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Read a file with the text of `to_json`.

        Args:
            path: The file.

        Returns:
            The calibration.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(frozenset(content["words"]), tuple(CalibratedLevel(**level) for level in content["levels"]))


def fit_level(
    sigma: float, height: Array, is_present: NDArray[np.bool_], precision: float = 0.95, absent_precision: float = 0.99
) -> CalibratedLevel:
    """Fit one noise level.

    Args:
        sigma: Noise over signal.
        height: Cosine minus the upper edge of the null band, (n,).
        is_present: Whether the word is there, (n,).
        precision: How often "present" must be right among these values, where it is said.
        absent_precision: How often "absent" must be right.

    Returns:
        The level. A threshold is None where fewer than ten values pass it.
    """
    slope, offset = _logistic(height.astype(np.float64), is_present)
    level = CalibratedLevel(round(sigma, 4), round(slope, 3), round(offset, 3), None, None)
    probability = level.probability(height)
    present = _threshold(probability, is_present, precision)
    absent = _threshold(-probability, ~is_present, absent_precision)
    return CalibratedLevel(level.sigma, level.slope, level.offset, present, None if absent is None else -absent)


def _threshold(score: NDArray[np.float64], right: NDArray[np.bool_], precision: float) -> float | None:
    """The lowest score down to which the share of right answers is the precision or more, at every higher one too."""
    order = np.argsort(-score, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(shares[9:] < precision)  # of fewer than ten a share says little
    count = len(order) if not len(enough) else int(enough[0]) + 9
    if count < 10:
        return None
    return round(float(score[order[count - 1]]), 6)


def _logistic(values: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of a logistic regression by Newton's method, with a weak pull to 0 against separable values."""
    scale = float(values.std()) or 1.0
    design = np.stack([values / scale, np.ones_like(values)], axis=1)
    weights = np.zeros(2)
    pull = 1e-2 * np.diag([1.0, 0.0])
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(design @ weights, -60, 60)))
        gradient = design.T @ (probability - right) + pull @ weights
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + pull + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(weights[0] / scale), float(weights[1])
