"""The code of docs/pages/add-a-method.md adds a method from outside the package and uses it end to end."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traitlets

import diffvis_widget as dv
from diffvis_widget.export.html import page
from diffvis_widget.widget.page.requests import reply as reply_to
from diffvis_widget.wire import packed_run
from tests.explain.toy import regional, toy_trace

PAGE = Path(__file__).parents[2] / "docs/pages/add-a-method.md"
NAME = "row_occlusion"


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The variables after the page's code has run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    variables: dict[str, Any] = {}
    try:
        exec(compile(code, str(PAGE), "exec"), variables)
        yield variables
    finally:
        if "widget" in variables:
            variables["widget"].close()
        if NAME in [method.name for method in dv.explain.registered_methods()]:
            dv.explain.unregister_method(NAME)


def test_the_documented_method_is_in_files_pages_figures_and_the_widget(
    documented: dict[str, Any], tmp_path: Path
) -> None:
    trace, widget = documented["trace"], documented["widget"]
    (saliency,) = trace.saliency
    assert (saliency.method, saliency.step, saliency.map.shape) == (NAME, 2, trace.latents.shape[2:])
    assert saliency.map.std() > 0
    assert (tmp_path / "step.png").stat().st_size > 0
    trace.save(tmp_path / "compact", compact=True)
    for name in ("run.safetensors", "compact"):
        (stored,) = dv.open_trace(tmp_path / name).saliency
        assert (stored.method, stored.step) == (NAME, 2)
        np.testing.assert_allclose(stored.map, saliency.map, rtol=1e-2)
    assert widget.overlay == NAME
    assert widget.wait(30)
    reply = reply_to(widget._session, 1, {"type": "saliency", "run": widget._outbox.run})
    assert [entry["method"] for entry in reply.content["maps"]] == [NAME]
    row = reply.content["methods"][-1]
    assert (row["name"], row["label"], row["finding"]) == (NAME, "Row occlusion", "")
    assert row["caption"].startswith("Shows how much the output changes")
    assert NAME in dv.explain.estimates(trace, 0)


def methods_in(document: str) -> dict[str, str]:
    """The labels of the methods by name, as an offline page holds them."""
    run = re.search(r'id="dv-run"[^>]*>([^<]*)<', document)
    assert run is not None
    messages = packed_run.unpack(gzip.decompress(base64.b64decode(run[1])))
    (reply,) = (message for message in messages if message.content["type"] == "saliency")
    assert [entry["method"] for entry in reply.content["maps"]] == [NAME]
    return {row["name"]: row["label"] for row in reply.content["methods"]}


def test_a_page_knows_the_label_only_while_the_method_is_registered(documented: dict[str, Any]) -> None:
    from diffvis_widget.export import drawing
    from diffvis_widget.export.view_options import view_of_step

    view = view_of_step(documented["trace"], 2, saliency=NAME)
    assert drawing.overlay_maps(documented["trace"], view)[0].name == "Row occlusion"
    assert methods_in(page([documented["trace"]]))[NAME] == "Row occlusion"
    dv.explain.unregister_method(NAME)
    assert drawing.overlay_maps(documented["trace"], view)[0].name == NAME
    assert NAME not in methods_in(page([documented["trace"]]))
    documented["widget"].overlay = "attention"
    documented["widget"].overlay = NAME  # the trace stores a map of it
    documented["trace"].saliency.clear()
    with pytest.raises(traitlets.TraitError, match=r"overlay must be .*; got 'row_occlusion'"):
        documented["widget"].overlay = NAME


def method(**fields: Any) -> dv.explain.Method:
    def uniform(trace: Any, step: int, *, batch: int | None, progress: Any) -> dv.Saliency:
        return dv.Saliency("wrong_name", step, np.ones(trace.latents.shape[2:], np.float32))

    row = {"name": "uniform", "label": "Uniform", "caption": "", "finding": "", "evaluations": 1, "function": uniform}
    return dv.explain.Method(**(row | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "df_cam"}, "name 'df_cam' is taken"),
        ({"name": "attention"}, 'and not "attention"'),
        ({"name": "My method"}, "lower case letters, digits and underscores"),
        ({"label": " "}, "label must name the method"),
        ({"evaluations": 0}, "evaluations must be an integer from 1 to"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(fields: dict[str, Any], message: str) -> None:
    before = dv.explain.registered_methods()
    with pytest.raises(ValueError, match=message):
        dv.explain.register_method(method(**fields))
    assert dv.explain.registered_methods() == before


def test_a_map_under_another_name_is_refused() -> None:
    trace, _ = toy_trace(regional(np.eye(8, dtype=bool)))
    dv.explain.register_method(method())
    try:
        with pytest.raises(ValueError, match=r"must return a map of 'uniform' for step 0 .* one of 'wrong_name'"):
            dv.explain.overlay(trace, 0, "uniform")
    finally:
        dv.explain.unregister_method("uniform")
