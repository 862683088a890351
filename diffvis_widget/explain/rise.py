"""DF-RISE: the latent pixels that a step depends on, estimated with random masks.

J.-H. Park, Y.-J. Ju, S.-W. Lee, "Explaining generative diffusion models via visual analysis for interpretable
decision-making process", Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404, Eq. 1-9, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.arguments import MAX_SEED, choice, count, optional_batch, real
from diffvis_widget.concepts import ConceptMeter, meter_for
from diffvis_widget.concepts.meter import check_meter
from diffvis_widget.tracer import Denoiser, denoiser
from diffvis_widget.traces import Trace
from diffvis_widget.traces.results.saliency import Saliency

from .hidden_latents import HIDDEN, Hidden, hidden_latents
from .image_decoding import decode_images
from .map_similarity import KINDS, Kind, similarity
from .progress import Progress, batch_size, check_progress, tracking
from .stored_maps import store_map

Similarity = Kind | Literal["features"]
Target = Literal["output", "previous_sample"]
Coverage = Literal["expected", "actual"]
Sums = NDArray[np.float64]
Compare = Callable[[Tensor], NDArray[np.float64]]
"""Masked latents (n, C, h, w) to their similarity with the unmasked: (n, h, w) or (n, 1, 1)."""
MAX_MASKS = 1_000_000
_FEWEST = 100  # masks before a map may count as converged


def df_rise(
    trace: Trace,
    step: int,
    masks: int = 500,
    similarity: Similarity = "structure",
    *,
    keep: float = 0.5,
    target: Target = "output",
    coverage: Coverage = "expected",
    hidden: Hidden = "zeros",
    tolerance: float = 0.05,
    seed: int = 0,
    batch: int | None = None,
    meter: ConceptMeter | None = None,
    progress: Progress = True,
) -> Saliency:
    """Compute DF-RISE of one step: the sum over N masks of M_n * S_n, divided by their coverage (Eq. 9).

    S_n is the local similarity of f(R) and f(R * M_n): R are the latents that entered the step, f the guided denoiser,
    M_n a random mask (h, w), shared by the channels, that keeps each latent pixel with probability `keep`.
    `trace.saliency` stores the map, in place of an earlier one of this method and step.

    On known scenes the maximum of the map lies on an object in one of ten; that of `smooth_rise` in eight of ten.

    Args:
        trace: A run made in this process.
        step: Index into `trace.steps`.
        masks: Largest number of masks, 2 to 1,000,000 (the paper: 500).
        similarity: "structure" (the paper's), "contrast", "luminance", "ssim", "cosine" (see `explain.similarity`), or
            "features": the cosine of the meter's features of the two decoded predictions, one number per mask (the
            paper uses features of the network behind FID).
        keep: Probability of keeping a pixel, between 0 and 1.
        target: "output" compares f; "previous_sample" the latents one denoising step later, as the paper's published
            code.
        coverage: "expected" divides by N * keep, as the paper does; "actual" divides each pixel by the number of masks
            that kept it: the same limit with far less noise (only the variation of S remains).
        hidden: What replaces hidden pixels: "zeros", as in the paper, which latents of no noise level look like; or
            "noise" of the step's level around the mean of the predicted clean latents, drawn again for each mask.
        tolerance: Stop when the noise of the masks is this share of the map's variance over its pixels, so that the
            expected correlation with the map of infinitely many masks is (1 - tolerance)^(1/2); 0 never stops early.
        seed: Seed of the masks; the same seed gives the same map, up to rounding for another `batch`.
        batch: Latents to evaluate at once; None chooses.
        meter: For "features"; None is the scenes CLIP for runs of the scenes model.
        progress: True, False, or a function of (done, total) that may raise to cancel.

    Returns:
        map: float32 (h, w), about 0..1 (its mean is the mean similarity); stderr: the standard error per pixel,
            NaN where fewer than two masks kept the pixel; masks_used.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, the run has no live pipeline, or, for noise, its noise levels are
            not known.
        IndexError: If the step is out of range.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.explain.df_rise(trace, step=1, masks=4, progress=False).masks_used
        4
    """
    total = count("masks", masks, least=2, most=MAX_MASKS)
    probability = real("keep", keep, 0, 1, open_ends=True)
    choice("similarity", similarity, (*KINDS, "features"))
    choice("coverage", coverage, ("expected", "actual"))
    choice("hidden", hidden, HIDDEN)
    choice("target", target, ("output", "previous_sample"))
    limit = real("tolerance", tolerance, 0, 1)
    size = optional_batch(batch)
    check_meter(meter)
    check_progress(progress)
    rng = np.random.default_rng(count("seed", seed, 0, MAX_SEED))
    probe = denoiser(trace, step)
    if similarity == "features":
        compare = _by_features(probe, trace, meter_for(trace, meter))
    else:
        compare = _local(probe, similarity, target)
    height, width = probe.latents.shape[2:]
    content = hidden_latents(probe, hidden)
    noise = rng.spawn(1)[0]  # the masks are those of zeros
    size = batch_size(size, probe.latents.shape)
    sums: Sums = np.zeros((3, height, width))
    divisor = probability if coverage == "expected" else None
    used = 0
    with tracking(progress, total, "DF-RISE") as tell:
        while used < total:
            masks_of_batch = rng.random((min(size, total - used), height, width)) < probability
            visible = torch.from_numpy(masks_of_batch[:, None]).to(probe.device)
            masked = torch.where(visible, probe.latents, content(noise, len(masks_of_batch)))
            alike = masks_of_batch * compare(masked)
            sums += masks_of_batch.sum(axis=0), alike.sum(axis=0), np.square(alike).sum(axis=0)
            used += len(masks_of_batch)
            tell(len(masks_of_batch))
            mean, error = estimate(sums, used, divisor)
            if used >= _FEWEST and float(np.mean(error * error)) <= limit * float(mean.var()):
                break
    mean, error = estimate(sums, used, divisor)
    saliency = Saliency("df_rise", probe.index, mean.astype(np.float32), error.astype(np.float32), used)
    return store_map(trace, saliency)


def _local(probe: Denoiser, kind: Kind, target: Target) -> Compare:
    def result(latents: Tensor, output: Tensor) -> Tensor:
        return probe.advance(latents, output) if target == "previous_sample" else output

    whole = result(probe.latents, probe.output)

    def compare(latents: Tensor) -> NDArray[np.float64]:
        return similarity(whole, result(latents, probe(latents)), kind).double().cpu().numpy()

    return compare


def _by_features(probe: Denoiser, trace: Trace, meter: ConceptMeter) -> Compare:
    def features(latents: Tensor, output: Tensor) -> NDArray[np.float32]:
        return meter.image_features(decode_images(trace, probe.clean(latents, output)))

    whole = features(probe.latents, probe.output)[0]

    def compare(latents: Tensor) -> NDArray[np.float64]:
        return (features(latents, probe(latents)) @ whole)[:, None, None].astype(np.float64)

    return compare


def estimate(sums: Sums, masks: int, keep: float | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the map and its standard error from sums over the masks.

    The error of actual coverage is that of a ratio of two sums (delta method).

    Args:
        sums: Sums of M, M S and M S^2, float64 (3, h, w).
        masks: Number of masks.
        keep: Probability of keeping a pixel; None for actual coverage.

    Returns:
        Map and standard error, float64 (h, w). The map of actual coverage is NaN where no mask kept the pixel; the
        error is NaN where fewer than two did: they show no variation.
    """
    drawn, alike, squared = sums
    if keep is not None:
        mean = alike / (masks * keep)
        variance = (squared / (masks * keep**2) - mean * mean) / (masks - 1)
    else:
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = alike / drawn
            variance = (squared - drawn * mean * mean) / (drawn * (drawn - 1))
    return mean, np.where(drawn < 2, np.nan, np.sqrt(np.maximum(variance, 0)))
