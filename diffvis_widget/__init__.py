"""Watch a text-to-image diffusion model decide, step by step.

    import diffvis_widget as dv

    widget = dv.DiffVis(prompt="a red circle above a blue square", concepts=["circle", "square"], seed=7)

Importing the package loads nothing heavy: each name below is imported when it is first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diffvis_widget import file_formats

if TYPE_CHECKING:
    from diffvis_widget import concepts, explain, export, intervene, scenes, schedule, studies, tracer, traces, widget
    from diffvis_widget.cancellation import Cancelled
    from diffvis_widget.concepts import ConceptMeter, concept_scores
    from diffvis_widget.explain.step_correlation import StepCorrelation, correlation
    from diffvis_widget.export.html import to_html
    from diffvis_widget.export.live_page import playground
    from diffvis_widget.files import open_trace
    from diffvis_widget.intervene import DecisionCurve, decision_curve
    from diffvis_widget.loading import load
    from diffvis_widget.schedule import timesteps
    from diffvis_widget.step_numbers import step_number
    from diffvis_widget.studies import PairedComparison, Study, study
    from diffvis_widget.tracer import Estimate, Tracer, denoiser, estimate, trace, trace_image
    from diffvis_widget.traces import (
        Comparison,
        ConceptScores,
        Layer,
        MapDescription,
        Note,
        Outcome,
        Saliency,
        Step,
        Trace,
        TraceFileError,
        Word,
        WordRelevance,
        compare,
    )
    from diffvis_widget.widget.session.run import RunFailed
    from diffvis_widget.widget.widget import DiffVis

__version__ = "0.2.0"

_HOMES = {
    "ConceptMeter": "concepts",
    "ConceptScores": "traces",
    "DecisionCurve": "intervene",
    "DiffVis": "widget.widget",
    "Estimate": "tracer",
    "Layer": "traces",
    "MapDescription": "traces",
    "Note": "traces",
    "Outcome": "traces",
    "PairedComparison": "studies",
    "RunFailed": "widget.session.run",
    "Saliency": "traces",
    "Step": "traces",
    "StepCorrelation": "explain.step_correlation",
    "Study": "studies",
    "Trace": "traces",
    "TraceFileError": "traces",
    "Tracer": "tracer",
    "Word": "traces",
    "WordRelevance": "traces",
    "Cancelled": "cancellation",
    "Comparison": "traces",
    "compare": "traces",
    "concept_scores": "concepts",
    "correlation": "explain.step_correlation",
    "decision_curve": "intervene",
    "denoiser": "tracer",
    "estimate": "tracer",
    "load": "loading",
    "open_trace": "files",
    "step_number": "step_numbers",
    "study": "studies",
    "timesteps": "schedule",
    "playground": "export.live_page",
    "to_html": "export.html",
    "trace": "tracer",
    "trace_image": "tracer",
}
_ROOMS = ("concepts", "explain", "export", "intervene", "scenes", "schedule", "studies", "tracer", "traces", "widget")

__all__ = [
    "Cancelled",
    "Comparison",
    "ConceptMeter",
    "ConceptScores",
    "DecisionCurve",
    "DiffVis",
    "Estimate",
    "Layer",
    "MapDescription",
    "Note",
    "Outcome",
    "PairedComparison",
    "RunFailed",
    "Saliency",
    "Step",
    "StepCorrelation",
    "Study",
    "Trace",
    "TraceFileError",
    "Tracer",
    "Word",
    "WordRelevance",
    "compare",
    "concept_scores",
    "concepts",
    "correlation",
    "decision_curve",
    "denoiser",
    "estimate",
    "explain",
    "export",
    "intervene",
    "load",
    "open_trace",
    "playground",
    "scenes",
    "schedule",
    "step_number",
    "studies",
    "study",
    "timesteps",
    "to_html",
    "trace",
    "trace_image",
    "tracer",
    "traces",
    "widget",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = getattr(home, name, None) or importlib.import_module(f"{home.__name__}.{name}")  # a module has its own name
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _write_compact(trace: traces.Trace) -> bytes:
    from diffvis_widget.wire.compact_file import write

    return write(trace)


file_formats.register_writer("compact", _write_compact)


def load_ipython_extension(shell: Any) -> None:
    """Register ``%%diffvis``; ``%load_ext diffvis_widget`` calls this.

    Args:
        shell: The running IPython shell.
    """
    importlib.import_module(f"{__name__}.widget.magic").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove ``%%diffvis``; ``%unload_ext diffvis_widget`` calls this.

    Args:
        shell: The running IPython shell.
    """
    importlib.import_module(f"{__name__}.widget.magic").unload(shell)
