"""Pages that paint, as files: size, policy, what they carry, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import diffvis_widget as dv
from diffvis_widget import cli
from diffvis_widget.traces import Trace
from tests import pipelines

POLICY = (
    r"default-src 'none'; script-src 'sha256-[A-Za-z0-9+/]{43}=' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; "
    r"img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
)
LIMIT = 28_000_000
EVIL = '</script><img src=x onerror="window.hacked=1"><b>bold</b>'


@pytest.fixture(scope="module")
def trace() -> Trace:
    return dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)


def test_a_playground_is_one_file_within_its_size_and_with_the_strict_policy(tmp_path: Path) -> None:
    path = dv.playground(tmp_path / "lab.html", prompt=EVIL)
    source = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= LIMIT
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy
    assert re.fullmatch(POLICY, policy[1])
    assert EVIL not in source
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?https?:", source)


def test_the_same_page_is_the_same_file(tmp_path: Path) -> None:
    pages = [dv.playground(tmp_path / f"{name}.html", "a circle").read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_a_recorded_run_with_the_model_stays_within_the_size(trace: Trace, tmp_path: Path) -> None:
    live, plain = dv.to_html(trace, tmp_path / "live.html", live=True), dv.to_html(trace, tmp_path / "run.html")
    assert 20_000_000 < live.stat().st_size <= LIMIT
    assert plain.stat().st_size < 3_000_000
    assert "wasm-unsafe-eval" not in plain.read_text(encoding="utf-8")


def test_only_runs_of_the_scenes_model_go_into_a_page_that_paints(tmp_path: Path) -> None:
    other = dv.trace(pipelines.stable_diffusion(), "a red circle", num_inference_steps=1)
    with pytest.raises(ValueError, match=r"only the built-in scenes model.*leave live=False"):
        dv.to_html(other, tmp_path / "run.html", live=True)
    assert not list(tmp_path.iterdir())
    assert dv.to_html(other, tmp_path / "run.html").is_file()


def test_wrong_arguments_are_refused_before_anything_is_written(trace: Trace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path.*\.html"):
        dv.playground(tmp_path / "lab.txt")
    with pytest.raises(TypeError, match="prompt"):
        dv.playground(tmp_path / "lab.html", prompt=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="notes"):
        dv.playground(tmp_path / "lab.html", notes=["look"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="live"):
        dv.to_html(trace, tmp_path / "run.html", live="yes")  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lab.html"
    assert cli.main(["page", str(out), "--prompt", "a blue square"]) == 0
    assert out.read_bytes() == dv.playground(tmp_path / "same.html", "a blue square").read_bytes()
    assert f"{out}: 26." in capsys.readouterr().out
    assert cli.main(["page", str(out)]) == 1
    assert "add --overwrite" in capsys.readouterr().err
