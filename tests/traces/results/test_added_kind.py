"""A kind of stored result from outside the package, used end to end. The documentation shows the class."""

from __future__ import annotations

import base64
import gzip
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from numpy.typing import NDArray

import diffvis_widget as dv
from diffvis_widget.traces import DescribedRun, StoredResult, StoredTensors, Trace, TraceFileError, register_result
from diffvis_widget.traces.results import stored_result
from diffvis_widget.wire.packed_run import Message, unpack
from tests.traces.build import make_trace
from tests.widget.conftest import SECONDS, page


# [docs:class]
@dataclass(frozen=True)
class Grain(StoredResult):
    """Spread of the predicted image at every step, and where it is large."""

    kind: ClassVar[str] = "grain"

    window: int
    spread: NDArray[np.float32]  # (T,)
    map: NDArray[np.float32]  # (h, w)

    def check(self, run: DescribedRun) -> None:
        if self.spread.shape != (len(run.steps),):
            raise ValueError(f"grain: spread is {self.spread.shape}, and the run has {len(run.steps)} steps")

    def header(self) -> dict[str, Any]:
        return {"window": self.window}

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"spread": self.spread, "map": self.map}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: StoredTensors) -> Self:
        window = header.get("window")
        if not isinstance(window, int):
            raise ValueError(f"grain: window is {window!r}")
        return cls(window, tensors.floats("spread", 1), tensors.floats("map", 2))


# [docs:end]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_result, "_kinds", dict(stored_result._kinds))
    register_result(Grain)


def grainy() -> Trace:
    trace = make_trace()
    # [docs:use]
    frames = trace.frames("prediction").astype(np.float32)
    spread = frames.std(axis=(1, 2, 3))
    trace.results(Grain).append(Grain(window=3, spread=spread, map=frames.std(axis=(0, 3))))
    # [docs:end]
    return trace


def assert_same(grain: Grain, expected: Grain) -> None:
    assert grain.window == expected.window
    np.testing.assert_array_equal(grain.spread, expected.spread)
    np.testing.assert_array_equal(grain.map, expected.map)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("compact", [False, True])
def test_it_is_in_both_forms_of_the_trace_file(tmp_path: Path, compact: bool) -> None:
    trace = grainy()
    opened = dv.open_trace(trace.save(tmp_path / "run", compact=compact))
    (grain,), (expected,) = opened.results(Grain), trace.results(Grain)
    assert_same(grain, expected)
    again = dv.open_trace(opened.save(tmp_path / "again", compact=compact))
    assert_same(again.results(Grain)[0], expected)


@pytest.mark.usefixtures("registered")
def test_it_is_checked_before_saving_and_after_loading(tmp_path: Path) -> None:
    trace = grainy()
    trace.results(Grain).append(Grain(3, np.ones(9, np.float32), np.ones((2, 2), np.float32)))
    with pytest.raises(ValueError, match=r"grain: spread is \(9,\), and the run has 3 steps"):
        trace.save(tmp_path / "run")
    trace.results(Grain)[:] = [Grain("three", np.ones(3, np.float32), np.ones((2, 2), np.float32))]  # pyright: ignore[reportArgumentType]
    with pytest.raises(TraceFileError, match="grain: window is 'three'"):
        dv.open_trace(trace.save(tmp_path / "run"))
    assert trace.nbytes > make_trace().nbytes


@pytest.mark.usefixtures("registered")
def test_it_is_in_the_offline_page(tmp_path: Path) -> None:
    trace = grainy()
    text = dv.to_html(trace, tmp_path / "run.html").read_text(encoding="utf-8")
    packed = re.search(r'id="dv-run">([^<]*)<', text)
    assert packed is not None
    messages = unpack(gzip.decompress(base64.b64decode(packed[1])))
    (message,) = (message for message in messages if message.content["type"] == "results")
    assert message.content["kind"] == "grain"
    assert_same(from_message(message), trace.results(Grain)[0])


@pytest.mark.usefixtures("registered")
def test_the_widget_sends_it_to_the_page(make: Any) -> None:
    trace = grainy()
    widget = make(trace)
    assert widget.wait(SECONDS)
    (run,) = widget._session.history.runs
    page(widget, {"type": "results", "id": 4, "run": run.id, "kind": "grain"})
    (message,) = widget.wire.of("results")
    assert (message.content["id"], message.content["kind"]) == (4, "grain")
    assert_same(from_message(message), trace.results(Grain)[0])
    page(widget, {"type": "results", "id": 5, "run": run.id, "kind": "nothing"})
    assert "kind must be one of" in widget.wire.of("error")[-1].content["message"]


def from_message(message: Message) -> Grain:
    (entry,) = message.content["results"]
    tensors = {
        form["name"]: np.frombuffer(data, form["dtype"]).reshape(form["shape"])
        for form, data in zip(entry["tensors"], message.buffers, strict=True)
    }
    return Grain.read(entry["header"], StoredTensors(tensors, "grain.0"))


@pytest.mark.parametrize("compact", [False, True])
def test_a_file_with_a_kind_that_is_not_registered_opens_without_it(
    tmp_path: Path, compact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as registration:
        registration.setattr(stored_result, "_kinds", dict(stored_result._kinds))
        register_result(Grain)
        path = grainy().save(tmp_path / "run", compact=compact)
    with pytest.warns(UserWarning, match="unknown kinds, which are left out: grain"):
        trace = dv.open_trace(path)
    assert trace.stored_results == {}
    with pytest.raises(ValueError, match="Grain is not registered"):
        trace.results(Grain)


@pytest.mark.usefixtures("registered")
def test_a_name_is_taken_once_and_is_no_name_of_the_file() -> None:
    register_result(Grain)  # the same class again, as when a cell runs twice

    class Other(Grain):
        pass

    with pytest.raises(ValueError, match="'grain' belongs to"):
        register_result(Other)
    for name in ("words", "latents", "not a name", ""):
        with pytest.raises(ValueError, match="kind must be an identifier"):
            register_result(type("Named", (Grain,), {"kind": name}))


def test_the_documentation_shows_this_class_and_its_use() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    documentation = Path(__file__).parents[3].joinpath("docs", "pages", "add-a-result.md").read_text(encoding="utf-8")
    sections = re.findall(r"^ *# \[docs:(?:class|use)\]\n(.*?)\n+ *# \[docs:end\]", source, re.S | re.M)
    assert len(sections) == 2
    for section in sections:
        assert textwrap.dedent(section).strip() in documentation
