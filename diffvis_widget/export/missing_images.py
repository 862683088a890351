"""Says which steps have no image: their predicted latents are NaN, and decode to plain grey."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces import Trace
from diffvis_widget.traces.noise import lacks_noise_levels

from .view_options import StepView

_MOST_NAMED = 5


def check_images(trace: Trace, views: Sequence[StepView]) -> None:
    """Refuse views whose images show nothing, and warn where this is so for a part of a figure.

    The predicted clean latents of a step are NaN where the noise levels of the run's scheduler are not known, and where
    the model's output was NaN.

    Args:
        trace: The trace.
        views: The views of one figure, filmstrip or animation.

    Raises:
        ValueError: No view of a predicted image has one, and nothing else is drawn over it.

    Warns:
        UserWarning: Some predicted images are missing, or all of them under heat maps: they are drawn grey.
    """
    shown = [view for view in views if view.step is not None and view.view in ("prediction", "change")]
    missing = [view.step for view in shown if view.step is not None and _is_missing(trace, view.step)]
    if not missing:
        return
    reason = (
        "the noise levels of its scheduler are not known"
        if lacks_noise_levels(trace.meta)
        else "the model's output is NaN there"
    )
    has_maps = any(view.words or view.saliency is not None for view in shown)
    if len(missing) == len(views) and not has_maps:
        raise ValueError(
            f'there is no predicted image to export: {reason}. Export the noisy images with view="latents", or the '
            "final image with step=None"
        )
    steps = ", ".join(str(step_number(step)) for step in missing[:_MOST_NAMED])
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    message = f"no predicted image for step {steps}{more}, drawn grey in its place: {reason}"
    warnings.warn(message, UserWarning, stacklevel=3)


def _is_missing(trace: Trace, step: int) -> bool:
    """Whether the recorded prediction of a step has no finite value; files for viewing only have images instead."""
    prediction = trace.records[step].prediction
    return prediction.size > 0 and not bool(np.isfinite(prediction).any())
