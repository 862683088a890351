"""DF-LIME: a linear model of a step's output over superpixels switched on and off, the baseline of arXiv 2402.10404.

After M. T. Ribeiro, S. Singh, C. Guestrin, "Why should I trust you?", KDD 2016, arXiv 1602.04938.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffvis_widget.arguments import MAX_SEED, count, optional_batch
from diffvis_widget.tracer import denoiser
from diffvis_widget.traces import Trace
from diffvis_widget.traces.noise import lacks_noise_levels
from diffvis_widget.traces.results.saliency import Saliency
from diffvis_widget.traces.types import Size

from .progress import Progress, batch_size, check_progress, tracking
from .stored_maps import store_map

_MAX_SAMPLES = 1_000_000
_RIDGE = 1.0
_WIDTH = 0.25


def df_lime(
    trace: Trace,
    step: int,
    samples: int = 1000,
    *,
    seed: int = 0,
    batch: int | None = None,
    progress: Progress = True,
) -> Saliency:
    """Compute DF-LIME of one step: how much the output changes with each superpixel, in a weighted linear model.

    Superpixels of the step's predicted image (quickshift: kernel size 4, max distance 200, ratio 0.2) are resampled to
    the latent grid. Each sample switches each of them on or off at random (off: zero latents; the first sample has all
    on). The output f, element by element, is regressed on the switches by ridge regression (alpha 1, intercept not
    penalised), each sample weighted sqrt(exp(-d^2 / 0.25^2)), d the cosine distance of its switches from all on. A
    superpixel's saliency is the root mean square of its coefficients over the elements of f.

    `trace.saliency` stores the map, in place of an earlier one of this method and step.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.
        samples: 2 to 1,000,000 (the paper: 1000).
        seed: Seed of the samples.
        batch: Latents to evaluate at once; None chooses.
        progress: True, False, or a function of (done, total) that may raise to cancel.

    Returns:
        map: float32 (h, w) >= 0, in the unit of f, constant on each superpixel; masks_used: `samples`.

    Raises:
        ImportError: If scikit-image is not installed (`pip install "diffvis-widget[explain]"`).
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the run has no live pipeline or no known noise levels.
        IndexError: If the step is out of range.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.explain.df_lime(trace, step=1, samples=4, progress=False).masks_used
        4
    """
    total = count("samples", samples, 2, _MAX_SAMPLES)
    size = optional_batch(batch)
    check_progress(progress)
    rng = np.random.default_rng(count("seed", seed, 0, MAX_SEED))
    probe = denoiser(trace, step)
    if lacks_noise_levels(trace.meta):
        raise ValueError(
            "superpixels are those of the predicted image, and this run has none: the noise levels of its scheduler are"
            " not known"
        )
    height, width = int(probe.latents.shape[2]), int(probe.latents.shape[3])
    segments = superpixels(trace.frames("prediction")[probe.index], (height, width))
    parts = int(segments.max()) + 1
    switches = rng.integers(0, 2, (total, parts)).astype(np.float64)
    switches[0] = 1
    size = batch_size(size, probe.latents.shape)
    model = _WeightedRidge(parts, probe.latents[0].numel())
    with tracking(progress, total, "DF-LIME") as tell:
        for start in range(0, total, size):
            on = switches[start : start + size]
            shown = probe.latents * torch.from_numpy(on[:, None, segments]).to(probe.latents)
            model.add(on, probe(shown).flatten(1).double().cpu().numpy())
            tell(len(on))
    strengths = np.sqrt(np.mean(np.square(model.coefficients()), axis=1))
    values = strengths[segments].astype(np.float32)
    return store_map(trace, Saliency("df_lime", probe.index, values, masks_used=total))


def superpixels(image: NDArray[np.uint8], size: Size) -> NDArray[np.intp]:
    """Segment an image into superpixels on a coarser grid; each cell gets its most frequent label.

    Args:
        image: uint8 (H, W, 3).
        size: (h, w) of the grid.

    Returns:
        Labels 0, 1, ..., (h, w).

    Raises:
        ImportError: If scikit-image is not installed.
    """
    try:
        from skimage.segmentation import quickshift
    except ImportError as error:
        raise ImportError(
            'DF-LIME needs scikit-image for its superpixels: pip install "diffvis-widget[explain]"'
        ) from error
    labels: NDArray[Any] = quickshift(image, kernel_size=4, max_dist=200, ratio=0.2)
    rows, columns = (np.arange(full) * cells // full for full, cells in zip(image.shape[:2], size, strict=True))
    cells = rows[:, None] * size[1] + columns[None, :]
    votes = np.zeros((size[0] * size[1], int(labels.max()) + 1), dtype=np.int64)
    np.add.at(votes, (cells.ravel(), labels.ravel()), 1)
    _, present = np.unique(votes.argmax(axis=1), return_inverse=True)
    return present.reshape(size)


class _WeightedRidge:
    """Ridge regression of many targets on the switches, by its normal equations, batch by batch.

    Args:
        parts: Number of superpixels.
        targets: Number of targets.
    """

    def __init__(self, parts: int, targets: int) -> None:
        self._gram = np.zeros((parts + 1, parts + 1))
        self._moment = np.zeros((parts + 1, targets))

    def add(self, switches: NDArray[np.float64], outputs: NDArray[np.float64]) -> None:
        # cosine of the switches with all ones; 0 where all are off
        """Add samples.

        Args:
            switches: float64 (samples, parts), 0 or 1.
            outputs: float64 (samples, targets).
        """
        distance = 1 - np.sqrt(switches.mean(axis=1))
        weights = np.sqrt(np.exp(-((distance / _WIDTH) ** 2)))
        design = np.concatenate([switches, np.ones((len(switches), 1))], axis=1)
        self._gram += design.T @ (design * weights[:, None])
        self._moment += (design * weights[:, None]).T @ outputs

    def coefficients(self) -> NDArray[np.float64]:
        """Solve for the coefficients.

        Returns:
            (parts, targets), without the intercept.
        """
        penalty = np.diag([*np.full(len(self._gram) - 1, _RIDGE), 0.0])
        return np.linalg.solve(self._gram + penalty, self._moment)[:-1].astype(np.float64)
