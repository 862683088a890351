"""Studies on a real Ray session of this machine: two actors, one of which dies, and the rows of a local study."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv

ROOT = Path(__file__).parent.parent.parent
ARGUMENTS: dict[str, Any] = {
    "prompts": ["a red circle", "a green star"],
    "seeds": 4,
    "conditions": ["uniform", "early"],
    "progress": False,
    "threads": 1,
    "num_inference_steps": 2,
}
# Ray has a process of its own, which it leaves with warnings. A GPU by name only: fractions of it are tried too.
PROGRAM = f"""
import os, pathlib, signal, sys
import ray
import diffvis_widget as dv
from diffvis_widget.studies.ray_executor import PATIENCE

folder = pathlib.Path(sys.argv[1])

def kills_once(trace):
    if trace.meta["seed"] == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {{"brightness": float(trace.image.mean())}}

os.environ |= PATIENCE
ray.init(num_cpus=2, num_gpus=1, include_dashboard=False)
dv.study(
    None, measures={{"attention": {{}}, "divergence": {{}}, "light": kills_once}}, out=folder / "ray",
    executor="ray", executor_options={{"actors": 2, "num_gpus": 0.5}}, **{ARGUMENTS!r}
)
"""


def brightness(trace: dv.Trace) -> dict[str, Any]:
    return {"brightness": float(trace.image.mean())}


@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'diffvis-widget[ray]'"
)
def test_two_actors_of_which_one_is_killed_make_the_rows_of_a_local_study(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, check=True)
    assert (tmp_path / "killed").exists()
    study = dv.Study.open(tmp_path / "ray")
    assert study.is_complete
    assert study.failed == 0
    measures = {"attention": {}, "divergence": {}, "light": brightness}
    local = dv.study(None, measures=measures, out=tmp_path / "local", **ARGUMENTS)
    assert study.table().drop(["seconds"]) == local.table().drop(["seconds"])


def test_a_pipeline_and_wrong_options_are_refused(tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "measures": [], "out": tmp_path, "executor": "ray"}
    with pytest.raises(TypeError, match="needs the name of a model"):
        dv.study(dv.load(), **arguments)
    with pytest.raises(TypeError, match="did you mean 'actors'"):
        dv.study(None, executor_options={"actor": 2}, **arguments)
    with pytest.raises(ValueError, match="actors must be"):
        dv.study(None, executor_options={"actors": 0}, **arguments)
    with pytest.raises(ValueError, match='are for executor="ray"'):
        dv.study(None, executor_options={"actors": 2}, **{**arguments, "executor": "local"})
