"""The page that says which pipelines are traced is what the code does today."""

from __future__ import annotations

import re

from benchmarks.tracer import pipelines
from benchmarks.tracer.editing_pipelines import editing_table


def test_the_table_is_up_to_date() -> None:
    page = (pipelines.HERE / "pipelines.md").read_text(encoding="utf-8")
    registered, modular, video, editing = re.split(r"\n(?=## (?:Modular|Video|Editing))", page)
    proven = pipelines.run_by_the_tests()
    assert registered == pipelines.table(proven)
    assert f"\n{modular}" == pipelines.modular_table()
    assert f"\n{video}" == pipelines.video_table()
    assert f"\n{editing}" == editing_table(proven)
