"""Sana-Sprint: Sana distilled to a few steps; the guidance scale is an input, and the loop keeps latents halved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from diffvis_widget.tracer.noise_levels import NoiseLevel

from . import sana
from .family import pipelines_named
from .vae_latents import scale_by_config

_DATA_SIGMA = 0.5
"""Standard deviation of the clean latents in the loop, as the scheduler's config has it (arXiv 2503.09641)."""


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    return scale_by_config(vae, latents / _DATA_SIGMA)


def _as_trigflow(level: NoiseLevel) -> tuple[float, float]:
    """The flow as a prediction of v (arXiv 2503.09641, equation 8), which the loop computes for its scheduler."""
    total = level.alpha + level.sigma
    return (level.alpha - level.sigma) / total, _DATA_SIGMA / total


FAMILY = replace(
    sana.FAMILY,
    name="Sana-Sprint",
    accepts=pipelines_named("SanaSprintPipeline", "SanaSprintImg2ImgPipeline"),
    embedding_indices=(0, None),
    scheduler_output=_as_trigflow,
    scale_for_vae=_scaled,
)
