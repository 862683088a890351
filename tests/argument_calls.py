"""A valid call of every public function and class, by its name in the documentation."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import diffvis_widget as dv
from diffvis_widget import explain, export, intervene

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # bqplot's own classes use a retired form of traitlets
    from diffvis_widget.widget.charts import attention_chart, concept_chart, decision_chart

Arguments = dict[str, Any]
Call = tuple[Callable[..., Any], Arguments]

ROOMS = {"dv": dv, "dv.explain": explain, "dv.export": export, "dv.intervene": intervene}

# Names that take no arguments of a user's: why.
EXEMPT = {
    "dv.Cancelled": "an exception",
    "dv.RunFailed": "an exception",
    "dv.TraceFileError": "an exception",
    "dv.export.AnimationOptions": "the keyword arguments of gif, mp4 and webp, which are walked",
    "dv.export.ViewOptions": "the keyword arguments of png, which are walked",
    "dv.Comparison": "a result, made by dv.compare",
    "dv.ConceptScores": "a result, made by dv.concept_scores; its check() is that of files",
    "dv.DecisionCurve": "a result, made by dv.decision_curve",
    "dv.Estimate": "a result, made by dv.estimate",
    "dv.Layer": "part of a Trace, made by the tracer",
    "dv.Step": "part of a Trace, made by the tracer",
    "dv.StepCorrelation": "a result, made by dv.correlation",
    "dv.Trace": "made by the tracer, or by dv.open_trace, which checks files",
    "dv.PairedComparison": "a result, made by Study.compare",
    "dv.Study": "made by dv.study and Study.open",
    "dv.study": "tests/studies refuses its wrong arguments",
    "PairedComparison.of": "called by Study.compare",
    "Study.compare": "tests/studies refuses its wrong arguments",
    "Study.open": "tests/studies refuses its wrong arguments",
    "Study.report": "tests/studies refuses its wrong arguments",
    "Study.resume": "tests/studies refuses its wrong arguments",
    "Study.show": "tests/studies refuses its wrong arguments",
    "Study.table": "tests/studies refuses its wrong arguments",
    "Study.to_pandas": "tests/studies refuses its wrong arguments",
    "Study.trace": "tests/studies refuses its wrong arguments",
    "dv.MapDescription": "a result, made by Trace.describe_map",
    "dv.Word": "part of a Trace, made by the tracer",
    "dv.WordRelevance": "a result, made by dv.explain.relevance; its check() is that of files",
    "dv.explain.GameResult": "a result, made by games",
    "dv.explain.Relevance": "a result, made by relevance",
    "dv.explain.RoleRelevance": "a result, made by relevance_by_role",
    "dv.intervene.Drop": "a value, made by drop",
    "dv.intervene.Freeze": "a value, made by freeze",
    "dv.intervene.Intervention": "the base class of the four interventions",
    "dv.intervene.Switch": "a value, made by switch",
    "dv.intervene.Weight": "a value, made by weight",
    "Drop.acts_at": "called by the engine for each step",
    "Freeze.acts_at": "called by the engine for each step",
    "Intervention.acts_at": "called by the engine for each step",
    "Switch.acts_at": "called by the engine for each step",
    "Weight.acts_at": "called by the engine for each step",
    "ConceptScores.check": "called by Trace, with itself",
    "ConceptScores.read": "called by the reader of files",
    "Saliency.check": "called by Trace, with itself",
    "Saliency.read": "called by the reader of files",
    "Note.check": "called by Trace, with itself",
    "Note.read": "called by the reader of files",
    "dv.Outcome": "a result, made by Note.outcome",
    "WordRelevance.check": "called by Trace, with itself",
    "WordRelevance.read": "called by the reader of files",
    "WordRelevance.scaled": "takes the words of a trace",
    "Trace.append": "called by the tracer",
    "Trace.attention_rows": "called by attention_from, which checks its arguments",
    "Trace.set_attention_source": "called by the tracer",
    "Trace.equals": "takes any object, as == does",
    "Trace.from_content": "called by the readers of files",
    "Denoiser.advance": "takes what calling it returned",
    "Denoiser.answers": "differentiable evaluation for explaining methods",
    "Denoiser.arguments": "differentiable evaluation for explaining methods",
    "Denoiser.branch": "differentiable evaluation for explaining methods",
    "Denoiser.clean": "takes what calling it returned",
    "Denoiser.inputs": "differentiable evaluation for explaining methods",
    "Denoiser.run": "differentiable evaluation for explaining methods",
    "DiffVis.set_settings": "called for the page, whose messages are checked",
    "DiffVis.set_state": "called by ipywidgets",
    "DiffVis.start": "called for the page, whose messages are checked",
    "DiffVis.validated": "called for the page, whose messages are checked",
}


class Material:
    """What valid calls are made of: one small run of the scenes model, recorded once."""

    def __init__(self, folder: Path) -> None:
        self.pipe = dv.load()
        self.trace = dv.trace(self.pipe, "a red circle", seed=7, num_inference_steps=6, keep="heads")
        self.trace.scores = dv.concept_scores(self.trace, ["circle"])
        self.file = self.trace.save(folder / "run.safetensors")
        self.folder = folder
        self.image = self.trace.image
        self.comparison = dv.compare(self.trace, self.trace)
        self.meter = dv.ConceptMeter()
        self.probe = dv.denoiser(self.trace, 1)
        self.saliency = dv.Saliency("df_rise", 1, np.zeros((12, 12), np.float32))

    def path(self, name: str) -> Path:
        return self.folder / name

    @functools.cached_property
    def widget(self) -> dv.DiffVis:
        return dv.DiffVis(self.trace)

    @functools.cached_property
    def live(self) -> dv.DiffVis:
        return dv.DiffVis(self.pipe)

    @functools.cached_property
    def curve(self) -> dv.DecisionCurve:
        arguments: Arguments = {"steps": 2, "seeds": 1, "switch": [0, 2], "progress": False}
        return dv.decision_curve(self.pipe, "a red circle", "red", "blue", **arguments)

    def close(self) -> None:
        for name in ("widget", "live"):
            if name in vars(self):
                getattr(self, name).close()


def _on(pipe: Any, interventions: dv.intervene.Intervention) -> None:
    with intervene.on(pipe, interventions):
        pass


def _widget(**arguments: Any) -> None:
    dv.DiffVis(**arguments).close()


def _scores(made: Any) -> dv.ConceptScores:
    scores = made.trace.scores
    assert scores is not None
    return scores


def _open_widget(path: str | Path, **arguments: Any) -> None:
    dv.DiffVis.open(path, **arguments).close()


def _like(function: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the signature and module of another one."""
    return functools.update_wrapper(function, original)


def _map_of(trace: dv.Trace, step: int, *, batch: int | None, progress: Any) -> dv.Saliency:
    return dv.Saliency("mine", step, np.zeros(trace.latents.shape[2:], np.float32))


def _method(
    name: str,
    label: str,
    caption: str,
    finding: str,
    evaluations: int,
    function: Callable[..., Any],
    usual_evaluations: int = 0,
) -> None:
    explain.register_method(
        explain.Method(name, label, caption, finding, evaluations, function, usual_evaluations=usual_evaluations)
    )
    explain.unregister_method(name)


QUIET: Arguments = {"progress": False}
CALLS: dict[str, Callable[[Material], Call]] = {
    "dv.concept_scores": lambda m: (dv.concept_scores, {"trace": m.trace, "concepts": ["circle"]}),
    "dv.compare": lambda m: (dv.compare, {"trace_a": m.trace, "trace_b": m.trace}),
    "dv.correlation": lambda m: (dv.correlation, {"trace": m.trace, "concepts": ["circle"]}),
    "dv.decision_curve": lambda m: (
        dv.decision_curve,
        {"pipe": m.pipe, "prompt": "a red circle", "word": "red", "to": "blue", "steps": 1, "seeds": 1, **QUIET},
    ),
    "dv.denoiser": lambda m: (dv.denoiser, {"trace": m.trace, "step": 0}),
    "dv.estimate": lambda m: (dv.estimate, {"pipe": m.pipe, "prompt": "a red circle", "steps": 1}),
    "dv.load": lambda m: (dv.load, {}),
    "dv.open_trace": lambda m: (dv.open_trace, {"path": m.file}),
    "dv.step_number": lambda m: (dv.step_number, {"index": 0}),
    "dv.timesteps": lambda m: (dv.timesteps, {"kind": "early", "steps": 4}),
    "dv.playground": lambda m: (dv.playground, {"path": m.path("lab.html"), "prompt": "a circle", "notes": []}),
    "dv.to_html": lambda m: (dv.to_html, {"source": m.trace, "path": m.path("run.html")}),
    "dv.trace": lambda m: (dv.trace, {"pipe": m.pipe, "prompt": "a red circle", "num_inference_steps": 1}),
    "dv.trace_image": lambda m: (
        dv.trace_image,
        {"pipe": m.pipe, "image": m.image, "prompt": "a circle", "timesteps": [500], "concepts": ["star"]},
    ),
    "dv.ConceptMeter": lambda m: (dv.ConceptMeter, {}),
    "dv.DiffVis": lambda m: (_like(_widget, dv.DiffVis), {"pipe": m.pipe}),
    "dv.Note": lambda m: (dv.Note, {"text": "Look", "expects": "steps > 1"}),
    "dv.Saliency": lambda m: (dv.Saliency, {"method": "mine", "step": 1, "map": m.saliency.map}),
    "dv.Tracer": lambda m: (dv.Tracer, {"pipe": m.pipe}),
    "dv.explain.Method": lambda m: (
        _method,
        {"name": "mine", "label": "Mine", "caption": "", "finding": "", "evaluations": 1, "function": _map_of},
    ),
    "dv.explain.df_cam": lambda m: (explain.df_cam, {"trace": m.trace, "step": 1}),
    "dv.explain.df_lime": lambda m: (explain.df_lime, {"trace": m.trace, "step": 1, "samples": 4, **QUIET}),
    "dv.explain.df_rise": lambda m: (explain.df_rise, {"trace": m.trace, "step": 1, "masks": 4, **QUIET}),
    "dv.explain.estimate": lambda m: (explain.estimate, {"trace": m.trace, "step": 1, "method": "df_cam"}),
    "dv.explain.estimates": lambda m: (explain.estimates, {"trace": m.trace, "step": 1}),
    "dv.explain.frechet": lambda m: (explain.frechet, {"first": np.eye(2), "second": np.eye(2)}),
    "dv.explain.games": lambda m: (
        explain.games,
        {"trace": m.trace, "step": 1, "maps": {"mine": m.saliency}, "distance": "pixels", **QUIET},
    ),
    "dv.explain.overlay": lambda m: (explain.overlay, {"trace": m.trace, "step": 1, "method": "df_cam"}),
    "dv.explain.register_method": lambda m: (explain.register_method, {"method": explain.registered_methods()[0]}),
    "dv.explain.registered_methods": lambda m: (explain.registered_methods, {}),
    "dv.explain.relevance": lambda m: (
        explain.relevance,
        {"pipe": m.pipe, "prompt": "a red circle", "num_inference_steps": 1, **QUIET},
    ),
    "dv.explain.relevance_by_role": lambda m: (
        explain.relevance_by_role,
        {
            "pipe": m.pipe,
            "prompts": ["a red circle"],
            "roles": [{"red": "colour"}],
            "schedules": ["uniform"],
            "num_inference_steps": 1,
            **QUIET,
        },
    ),
    "dv.explain.relevance_of": lambda m: (explain.relevance_of, {"pipe": m.pipe, "trace": m.trace, **QUIET}),
    "dv.explain.similarity": lambda m: (
        explain.similarity,
        {"a": torch.zeros(1, 1, 4, 4), "b": torch.ones(1, 1, 4, 4)},
    ),
    "dv.explain.smooth_rise": lambda m: (explain.smooth_rise, {"trace": m.trace, "step": 1, "masks": 4, **QUIET}),
    "dv.explain.unregister_method": lambda m: (explain.unregister_method, {"name": "df_cam"}),
    "dv.export.code": lambda m: (export.code, {"trace": m.trace}),
    "dv.export.csv": lambda m: (export.csv, {"trace": m.trace}),
    "dv.export.filmstrip": lambda m: (export.filmstrip, {"trace": m.trace, "size": 32, "steps": [0]}),
    "dv.export.gif": lambda m: (export.gif, {"trace": m.trace, "size": 32}),
    "dv.export.mp4": lambda m: (export.mp4, {"trace": m.trace, "size": 32}),
    "dv.export.png": lambda m: (export.png, {"trace": m.trace, "size": 32}),
    "dv.export.webp": lambda m: (export.webp, {"trace": m.trace, "size": 32}),
    "dv.intervene.drop": lambda m: (intervene.drop, {"word": "red"}),
    "dv.intervene.freeze": lambda m: (intervene.freeze, {"trace": m.trace, "steps": 1}),
    "dv.intervene.on": lambda m: (_on, {"pipe": m.pipe, "interventions": intervene.drop("red")}),
    "dv.intervene.switch": lambda m: (intervene.switch, {"prompt": "a blue circle", "step": 1}),
    "dv.intervene.weight": lambda m: (intervene.weight, {"word": "red", "factor": 2.0}),
    "charts.attention_chart": lambda m: (attention_chart, {"widget": m.widget}),
    "charts.concept_chart": lambda m: (concept_chart, {"widget": m.widget}),
    "charts.decision_chart": lambda m: (decision_chart, {"curve": m.curve}),
    "Comparison.map_difference": lambda m: (m.comparison.map_difference, {"pair": 1}),
    "ConceptMeter.image_features": lambda m: (m.meter.image_features, {"frames": m.image[None]}),
    "ConceptMeter.scores": lambda m: (m.meter.scores, {"frames": m.image[None], "concepts": ["circle"]}),
    "ConceptMeter.share": lambda m: (m.meter.share, {"cosine": np.zeros((1, 2), np.float32)}),
    "Denoiser.__call__": lambda m: (m.probe.__call__, {"latents": m.trace.latents[:1]}),
    "DiffVis.check_model": lambda m: (m.widget.check_model, {"pipe": m.pipe}),
    "DiffVis.compare": lambda m: (m.widget.compare, {"trace": m.trace}),
    "DiffVis.follow": lambda m: (m.live.follow, {"pipe": m.pipe}),
    "Note.outcome": lambda m: (dv.Note("Look", expects="steps > 1").outcome, {"trace": m.trace, "others": []}),
    "DiffVis.note": lambda m: (m.widget.note, {"text": "Look", "expects": "steps > 1"}),
    "ConceptScores.verdict": lambda m: (_scores(m).verdict, {"concept": "circle"}),
    "DiffVis.observe_scores": lambda m: (m.widget.observe_scores, {"callback": print}),
    "DiffVis.open": lambda m: (_open_widget, {"path": m.file}),
    "DiffVis.seeds": lambda m: (m.live.seeds, {"n": 1}),
    "DiffVis.show": lambda m: (m.widget.show, {"trace": m.trace}),
    "DiffVis.static": lambda m: (m.widget.static, {}),
    "DiffVis.wait": lambda m: (m.widget.wait, {}),
    "Trace.attention_from": lambda m: (m.trace.attention_from, {"position": (0.5, 0.5), "step": 1}),
    "Trace.attention_maps": lambda m: (m.trace.attention_maps, {"position": (0.5, 0.5), "step": 1}),
    "Trace.decode": lambda m: (m.trace.decode, {"latents": m.trace.latents[:1]}),
    "Trace.encoded_frames": lambda m: (m.trace.encoded_frames, {"kind": "prediction"}),
    "Trace.finish": lambda m: (dv.open_trace(m.file).finish, {"image": m.image}),
    "Trace.frame": lambda m: (m.trace.frame, {"kind": "prediction", "index": 0}),
    "Trace.output_frames": lambda m: (m.trace.output_frames, {"frame": 0}),
    "Trace.frames": lambda m: (m.trace.frames, {"kind": "prediction"}),
    "Trace.has_frames": lambda m: (m.trace.has_frames, {"kind": "prediction"}),
    "Trace.heat_map": lambda m: (m.trace.heat_map, {"word": "circle"}),
    "Trace.describe_map": lambda m: (m.trace.describe_map, {"word": "circle"}),
    "Trace.heat_maps": lambda m: (m.trace.heat_maps, {}),
    "Trace.keep_attention": lambda m: (m.trace.keep_attention, {"steps": [1]}),
    "Trace.keep_frame": lambda m: (
        m.trace.keep_frame,
        {"kind": "prediction", "index": 0, "image": m.trace.frames("prediction")[0]},
    ),
    "Trace.note": lambda m: (m.trace.note, {"text": "Look", "expects": "steps > 1"}),
    "Trace.results": lambda m: (m.trace.results, {"kind": dv.Note}),
    "Trace.save": lambda m: (m.trace.save, {"path": m.path("again.safetensors")}),
}


# attributes that can be set, with the type of their values
SETTERS: dict[str, Callable[[Material], tuple[Any, Any]]] = {
    "DiffVis.concepts": lambda m: (m.live, list[str]),
    "DiffVis.guidance_scale": lambda m: (m.live, float | None),
    "DiffVis.negative_prompt": lambda m: (m.live, str),
    "DiffVis.overlay": lambda m: (m.live, Literal["attention"]),
    "DiffVis.prompt": lambda m: (m.live, str),
    "DiffVis.schedule": lambda m: (m.live, Literal["uniform", "early", "late"]),
    "DiffVis.schedule_strength": lambda m: (m.live, float),
    "DiffVis.seed": lambda m: (m.live, int),
    "DiffVis.selected": lambda m: (m.live, list[int]),
    "DiffVis.step": lambda m: (m.live, int),
    "DiffVis.steps": lambda m: (m.live, int | None),
    "Trace.notes": lambda m: (dv.open_trace(m.file), list[dv.Note]),
    "Trace.relevance": lambda m: (dv.open_trace(m.file), list[dv.WordRelevance]),
    "Trace.saliency": lambda m: (dv.open_trace(m.file), list[dv.Saliency]),
    "Trace.scores": lambda m: (dv.open_trace(m.file), dv.ConceptScores | None),
}


def public_callables() -> Iterator[str]:
    """Every public function and class by its first name, and the public methods that take arguments."""
    values: dict[int, tuple[str, Any]] = {}
    for room, module in ROOMS.items():
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                values.setdefault(id(value), (f"{room}.{name}", value))
    for chart in (attention_chart, concept_chart, decision_chart):
        values[id(chart)] = f"charts.{chart.__name__}", chart
    yield from (name for name, _ in values.values())
    for owner in (*(value for _, value in values.values() if inspect.isclass(value)), dv.tracer.Denoiser):
        for name in _methods(owner):
            yield f"{owner.__name__}.{name}"


def _methods(owner: type) -> Iterator[str]:
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        home = next(base for base in owner.__mro__ if name in vars(base))
        if (name.startswith("_") and name != "__call__") or not home.__module__.startswith("diffvis_widget"):
            continue
        function = getattr(owner, name)
        if not callable(function) or isinstance(value, property):
            continue
        with contextlib.suppress(ValueError):
            taken = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
            if taken:
                yield name
