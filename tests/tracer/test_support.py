"""The page that says which pipelines are traced is what the code does today."""

from __future__ import annotations

from benchmarks.tracer import pipelines


def test_the_table_is_up_to_date() -> None:
    page = (pipelines.HERE / "pipelines.md").read_text(encoding="utf-8")
    proven = {line.split(" | ")[1] for line in page.splitlines() if line.endswith("| yes |")}
    assert len(proven) > 25
    assert page == pipelines.table(proven)
