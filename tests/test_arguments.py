"""Every public function refuses wrong arguments by name: never silently, never by an error from within.

The test walks the public functions, takes a valid call of each, and replaces one argument after the other by values of
other types, NaN, infinity, huge and negative numbers and empty lists, chosen by the type hints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv
from diffvis_widget import export
from tests.argument_values import NONSENSE, WRONG, fits, parameters

Arguments = dict[str, Any]


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

    def path(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("arguments"))


CALLS: dict[str, Callable[[Material], tuple[Callable[..., Any], Arguments]]] = {
    "dv.concept_scores": lambda m: (dv.concept_scores, {"trace": m.trace, "concepts": ["circle"]}),
    "dv.Tracer": lambda m: (dv.Tracer, {"pipe": m.pipe}),
    "dv.compare": lambda m: (dv.compare, {"trace_a": m.trace, "trace_b": m.trace}),
    "dv.load": lambda m: (dv.load, {}),
    "dv.open_trace": lambda m: (dv.open_trace, {"path": m.file}),
    "dv.timesteps": lambda m: (dv.timesteps, {"kind": "early", "steps": 4}),
    "dv.to_html": lambda m: (dv.to_html, {"source": m.trace, "path": m.path("run.html")}),
    "dv.Note": lambda m: (dv.Note, {"text": "Look"}),
    "dv.export.code": lambda m: (export.code, {"trace": m.trace}),
    "dv.export.csv": lambda m: (export.csv, {"trace": m.trace}),
    "dv.export.filmstrip": lambda m: (export.filmstrip, {"trace": m.trace, "size": 32, "steps": [0]}),
    "dv.export.gif": lambda m: (export.gif, {"trace": m.trace, "size": 32}),
    "dv.export.mp4": lambda m: (export.mp4, {"trace": m.trace, "size": 32}),
    "dv.export.png": lambda m: (export.png, {"trace": m.trace, "size": 32}),
    "dv.export.webp": lambda m: (export.webp, {"trace": m.trace, "size": 32}),
    "Comparison.map_difference": lambda m: (m.comparison.map_difference, {"pair": 1}),
    "Trace.decode": lambda m: (m.trace.decode, {"latents": m.trace.latents[:1]}),
    "Trace.encoded_frames": lambda m: (m.trace.encoded_frames, {"kind": "prediction"}),
    "Trace.finish": lambda m: (dv.open_trace(m.file).finish, {"image": m.image}),
    "Trace.frame": lambda m: (m.trace.frame, {"kind": "prediction", "index": 0}),
    "Trace.frames": lambda m: (m.trace.frames, {"kind": "prediction"}),
    "Trace.has_frames": lambda m: (m.trace.has_frames, {"kind": "prediction"}),
    "Trace.heat_map": lambda m: (m.trace.heat_map, {"word": "circle"}),
    "Trace.heat_maps": lambda m: (m.trace.heat_maps, {}),
    "Trace.keep_frame": lambda m: (
        m.trace.keep_frame,
        {"kind": "prediction", "index": 0, "image": m.trace.frames("prediction")[0]},
    ),
    "Trace.note": lambda m: (m.trace.note, {"text": "Look"}),
    "Trace.results": lambda m: (m.trace.results, {"kind": dv.Note}),
    "Trace.save": lambda m: (m.trace.save, {"path": m.path("again.safetensors")}),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_refused_by_name(material: Material, name: str) -> None:
    function, valid = CALLS[name](material)
    faults: list[str] = []
    for argument, hint in parameters(function).items():
        for label, value in WRONG.items():
            if fits(hint, value) and label not in NONSENSE and not label.startswith("an empty"):
                continue
            if fault := _fault(
                function, {**valid, argument: value}, argument, silent=fits(hint, value) and label not in NONSENSE
            ):
                faults.append(f"{argument}={label}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


def _fault(function: Callable[..., Any], arguments: Arguments, argument: str, *, silent: bool) -> str | None:
    """What is wrong with the answer to these arguments; None where they are refused by name."""
    try:
        function(**arguments)
    except Exception as error:  # noqa: BLE001 - any error is the subject of the test
        message = str(error)
        singular = argument.rstrip("s")
        return None if re.search(rf"\b{singular}", message) else f"{type(error).__name__}: {message[:150]}"
    return None if silent else "was taken"


@pytest.mark.parametrize("name", CALLS)
def test_misspelt_arguments_are_refused_by_name(material: Material, name: str) -> None:
    function, valid = CALLS[name](material)
    for argument in parameters(function):
        misspelt = argument[:-1] + argument[-1] * 2
        with pytest.raises(TypeError, match=misspelt):
            function(**valid, **{misspelt: 1})
