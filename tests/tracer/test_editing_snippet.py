"""The snippets of the documentation about places and references run, on the scenes model and on a tiny FLUX.2 klein."""

from __future__ import annotations

from typing import Any

import numpy as np

import diffvis_widget as dv
from tests.pipelines_edit import EDITING
from tests.snippets import snippets

PAGE = "how-it-works.md"


def test_the_snippet_about_places_runs() -> None:
    names: dict[str, Any] = {"dv": dv}
    (code,) = snippets(PAGE, "What a place attends to", level=3)
    exec(code, names)
    assert names["words"].shape == (10,)
    np.testing.assert_allclose(names["words"].sum(), 1, atol=2e-3)


def test_the_snippet_about_editing_runs() -> None:
    load, code = snippets(PAGE, "Editing", level=3)
    assert "Flux2KleinPipeline.from_pretrained" in load
    case = EDITING["klein-two"]
    size = {"height": 32, "width": 48, "max_sequence_length": 64}
    names: dict[str, Any] = {"dv": dv, "pipe": case.build(), "images": case.arguments["image"], "size": size}
    exec(code, names)
    assert names["hat"].shape == names["trace"].layers[0].reference_grids[1]
    assert 0 < sum(names["shares"]) < 1
