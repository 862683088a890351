"""Concept meters: how much of a word CLIP sees in the picture so far, at every denoising step."""

from __future__ import annotations

from .meter import ConceptMeter
from .scores import ConceptScores, concept_scores, emergence, meter_for

__all__ = ["ConceptMeter", "ConceptScores", "concept_scores", "emergence", "meter_for"]
