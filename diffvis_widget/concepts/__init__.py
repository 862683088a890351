"""Concept meters: how similar the predicted image is to a word according to CLIP, at every denoising step."""

from __future__ import annotations

from .meter import ConceptMeter, default_meter
from .scores import ConceptScores, calibrated, concept_scores, emergence, meter_for

__all__ = ["ConceptMeter", "ConceptScores", "calibrated", "concept_scores", "default_meter", "emergence", "meter_for"]
