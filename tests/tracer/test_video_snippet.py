"""The snippet of the documentation about videos runs, on a tiny Wan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv
from tests.pipelines_video import wan
from tests.snippets import snippets


def test_the_snippet_about_videos_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, code = snippets("how-it-works.md", "Videos", level=3)
    assert "WanPipeline.from_pretrained" in load
    monkeypatch.chdir(tmp_path)
    size: dict[str, Any] = {"num_frames": 9, "height": 32, "width": 48, "max_sequence_length": 24}
    names: dict[str, Any] = {"dv": dv, "pipe": wan(), "prompt": "a red ball rolls to the left", "size": size}
    exec(code.replace("steps=30", "steps=2"), names)
    assert names["trace"].frame_count == 3
    assert (tmp_path / "ball.gif").stat().st_size > 0
    assert "Frames" in (tmp_path / "run.html").read_text(encoding="utf-8")
