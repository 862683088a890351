"""The page that says which pipelines are traced is what the code does today."""

from __future__ import annotations

from benchmarks.tracer import pipelines


def test_the_table_is_up_to_date() -> None:
    page, video = (pipelines.HERE / "pipelines.md").read_text(encoding="utf-8").split("\n## Video")
    standard, modular = page.split("\n## Modular")
    proven = {line.split(" | ")[1] for line in standard.splitlines() if line.endswith("| yes |")}
    assert len(proven) > 25
    assert standard == pipelines.table(proven)
    assert f"\n## Modular{modular}" == pipelines.modular_table()
    assert f"\n## Video{video}" == pipelines.video_table()
