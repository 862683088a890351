"""Watch a text-to-image diffusion model decide, step by step.

    import diffvis_widget as dv

    widget = dv.DiffVis(prompt="a red circle above a blue square", concepts=["circle", "square"], seed=7)

Importing the package loads nothing heavy: each name below is loaded from its room when it is first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffvis_widget import concepts, explain, intervene, scenes, schedule, tracer, traces, widget
    from diffvis_widget.concepts import ConceptMeter, ConceptScores, concept_scores
    from diffvis_widget.intervene import DecisionCurve, decision_curve
    from diffvis_widget.schedule import timesteps
    from diffvis_widget.tracer import Tracer, denoiser, trace
    from diffvis_widget.traces import Layer, Step, Trace, TraceFileError, Word, open_trace
    from diffvis_widget.widget.loading import load
    from diffvis_widget.widget.runs import RunFailed
    from diffvis_widget.widget.widget import DiffVis

__version__ = "0.1.0"

_HOMES = {
    "ConceptMeter": "concepts",
    "ConceptScores": "concepts",
    "DecisionCurve": "intervene",
    "DiffVis": "widget.widget",
    "Layer": "traces",
    "RunFailed": "widget.runs",
    "Step": "traces",
    "Trace": "traces",
    "TraceFileError": "traces",
    "Tracer": "tracer",
    "Word": "traces",
    "concept_scores": "concepts",
    "decision_curve": "intervene",
    "denoiser": "tracer",
    "load": "widget.loading",
    "open_trace": "traces",
    "timesteps": "schedule",
    "trace": "tracer",
}
_ROOMS = ("concepts", "explain", "intervene", "scenes", "schedule", "tracer", "traces", "widget")

__all__ = [
    "ConceptMeter",
    "ConceptScores",
    "DecisionCurve",
    "DiffVis",
    "Layer",
    "RunFailed",
    "Step",
    "Trace",
    "TraceFileError",
    "Tracer",
    "Word",
    "concept_scores",
    "concepts",
    "decision_curve",
    "denoiser",
    "explain",
    "intervene",
    "load",
    "open_trace",
    "scenes",
    "schedule",
    "timesteps",
    "trace",
    "tracer",
    "traces",
    "widget",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
