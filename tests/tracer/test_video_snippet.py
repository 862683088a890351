"""The snippet of the documentation about videos runs, on a tiny Wan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv
from tests.pipelines_video import wan

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "how-it-works.md"


def test_the_snippet_about_videos_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.read_text(encoding="utf-8").split("### Videos\n")[1].split("\n### ")[0]
    load, code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert "WanPipeline.from_pretrained" in load
    monkeypatch.chdir(tmp_path)
    size: dict[str, Any] = {"num_frames": 9, "height": 32, "width": 48, "max_sequence_length": 24}
    names: dict[str, Any] = {"dv": dv, "pipe": wan(), "prompt": "a red ball rolls to the left", "size": size}
    exec(code.replace("steps=30", "steps=2"), names)
    assert names["trace"].frame_count == 3
    assert (tmp_path / "ball.gif").stat().st_size > 0
    assert "Frames" in (tmp_path / "run.html").read_text(encoding="utf-8")
