"""Concept scores of a whole run: cosines, shares, null band, and the step at which each concept emerges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import instance
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.traces import ConceptScores, Trace
from diffvis_widget.traces.noise import lacks_noise_levels
from diffvis_widget.wire.recorded_run import recorded_images

from .calibration import Calibration
from .meter import ConceptMeter, check_concepts, check_meter, default_meter


def concept_scores(trace: Trace, concepts: Sequence[str], meter: ConceptMeter | None = None) -> ConceptScores:
    """Score every step's exactly decoded prediction against words.

    The scores are kept as `trace.scores`, in place of earlier ones, so that files and pages of the trace have them.

    Args:
        trace: a run; its prediction frames are decoded where that has not happened yet.
        concepts: words or phrases.
        meter: the CLIP model that measures. None is the scenes CLIP, for runs of the scenes model only.

    Returns:
        Scores float32 (T, K) with their null band and the steps of emergence; of a video, the mean over its latent
        frames, and `ConceptScores.by_frame`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: concepts that are not a list of words; no meter for a run of another model.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)
        >>> dv.concept_scores(trace, ["circle", "red"]).cosine.shape
        (2, 2)
    """
    scores = measured_scores(trace, concepts, meter)
    if scores.concepts and trace.is_complete:
        trace.scores = scores
    return scores


def measured_scores(trace: Trace, concepts: Sequence[str], meter: ConceptMeter | None) -> ConceptScores:
    """Score a run as `concept_scores` does, and leave the trace as it is.

    Args:
        trace: The run.
        concepts: Words or phrases.
        meter: The CLIP model; None for the scenes CLIP.

    Returns:
        The scores.
    """
    instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it")
    words = check_concepts(concepts)
    meter = meter_for(trace, meter)
    if lacks_noise_levels(trace.meta):
        raise ValueError(
            "concept scores follow the predicted images, and this run has none: the noise levels of its scheduler are "
            "not known"
        )
    by_frame: NDArray[np.float32] | None = None
    if trace.frame_count == 1:
        cosine, null_band = meter.scores(trace.frames("prediction"), words)
    else:  # step by step: the decoded videos of all steps would fill the memory
        images = (shown.prediction for shown in recorded_images(trace))
        parts = [meter.scores(image, words) for image in images if image is not None]
        by_frame = np.stack([cosines for cosines, _ in parts])
        cosine = by_frame.mean(axis=1)
        null_band = np.stack([bands.mean(axis=0) for _, bands in parts])
    present = calibrated(meter, trace, words, cosine, null_band)
    emerging = emergence(cosine, null_band, present)
    return ConceptScores(words, cosine, meter.share(cosine), null_band, emerging, meter.label, by_frame, present)


def calibrated(
    meter: ConceptMeter,
    trace: Trace | None,
    concepts: Sequence[str],
    cosine: NDArray[np.float32],
    null_band: NDArray[np.float32],
) -> NDArray[np.float32] | None:
    """Decide which concepts are present, by the calibration of the meter.

    Args:
        meter: The meter.
        trace: The run, whose first T steps were scored.
        concepts: K concepts.
        cosine: float32 (T, K).
        null_band: float32 (T, 2).

    Returns:
        float32 (T, K): 1 present, 0 absent, NaN not sure. None where the meter is not calibrated, or the run is of
        another model than the calibration.
    """
    calibration: Calibration | None = getattr(meter, "calibration", None)
    if calibration is None or trace is None or not is_scenes_model(trace.meta.get("fingerprint")):
        return None
    sigmas = np.array([step.sigma for step in trace.steps[: len(cosine)]])
    return calibration.present(concepts, cosine, null_band, sigmas) if len(sigmas) == len(cosine) else None


def meter_for(trace: Trace, meter: ConceptMeter | None) -> ConceptMeter:
    """Choose the meter for a run.

    Args:
        trace: The run.
        meter: A meter; None for the scenes CLIP, which is for runs of the scenes model only.

    Returns:
        The meter that was given, or the default one, which the process shares.

    Raises:
        TypeError: If `meter` is no meter.
        ValueError: If `meter` is None and the run is of another model.
    """
    check_meter(meter)
    if meter is not None:
        return meter
    if not is_scenes_model(trace.meta.get("fingerprint")):
        raise ValueError(
            "meter=None is for runs of the built-in scenes model; for this run choose one, such as "
            'ConceptMeter("ViT-B-32", pretrained="laion2b_s34b_b79k")'
        )
    return default_meter()


def emergence(
    cosine: NDArray[np.float32], null_band: NDArray[np.float32], present: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Find the first step from which each concept stays above the midpoint of its first and last cosine.

    Only a concept that is clearly present at the end emerges: a calibrated meter says so at the last step. Without a
    calibration, the last cosine is above the null band and above the middle between the top of the band and the highest
    last cosine of these concepts.

    Args:
        cosine: float32 (T, K).
        null_band: float32 (T, 2), lower and upper edge of the null band.
        present: float32 (T, K): 1 present, 0 absent, NaN not sure; None without a calibration.

    Returns:
        float32 (K,), indices of steps; NaN where the concept is not clearly present at the end, or ends no higher than
        it began.
    """
    steps, count = cosine.shape
    result = np.full(count, np.nan, dtype=np.float32)
    if steps == 0:
        return result
    top = null_band[-1, 1]
    middle = (top + cosine[-1].max(initial=top)) / 2
    for k in range(count):
        curve = cosine[:, k]
        is_present = curve[-1] > max(top, middle) if present is None else present[-1, k] == 1
        if not is_present or curve[-1] <= curve[0]:
            continue
        below = np.flatnonzero(curve <= (curve[0] + curve[-1]) / 2)
        result[k] = below[-1] + 1 if len(below) else 0
    return result


__all__ = ["ConceptScores", "calibrated", "concept_scores", "emergence", "meter_for"]
