"""A study whose process is killed twice ends with the table of an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import diffvis_widget as dv

ROOT = Path(__file__).parent.parent.parent
ARGUMENTS: dict[str, Any] = {
    "prompts": ["a red circle", "a green star"],
    "seeds": 5,
    "measures": ["scores", "attention"],
    "progress": False,
    "threads": 1,
    "num_inference_steps": 2,
}
# Loads the libraries once, and runs the study in a process of its own each time, which it kills after a part. Both are
# forked at once: a process in which pyarrow has read a file has threads, which a fork does not take along.
PROGRAM = f"""
import os, pathlib, signal, sys
import diffvis_widget as dv
from diffvis_widget.studies import parts

parts.PART_ROWS = 3
pipe = dv.load()
out = pathlib.Path(sys.argv[1])
children = []
for _ in range(2):
    wait_for, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wait_for, 1)
        dv.study(pipe, out=out, **{ARGUMENTS!r})
        os._exit(0)
    children.append((child, start))
for child, start in children:
    before = len(list(out.glob("parts/*.parquet")))
    os.write(start, b"1")
    ended = 0
    while not ended and len(list(out.glob("parts/*.parquet"))) == before:
        ended, _ = os.waitpid(child, os.WNOHANG)
    os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), dv.Study.open(out).finished, flush=True)
"""


def test_a_study_that_is_killed_twice_ends_with_the_same_table(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, str(out)]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (first_code, first_rows), (second_code, second_rows) = (map(int, line.split()) for line in output.splitlines())
    assert (first_code, second_code) == (-9, -9)
    assert 1 <= first_rows < second_rows < 10
    resumed = dv.study(None, out=out, **ARGUMENTS)
    undisturbed = dv.study(None, out=tmp_path / "undisturbed", **ARGUMENTS)
    tables = [study.table().drop(["seconds"]).to_pylist() for study in (resumed, undisturbed)]
    assert repr(tables[0]) == repr(tables[1]), "equal to the bit; NaN, a concept that does not emerge, equals itself"
    assert resumed.table(["row"]).column("row").to_pylist() == list(range(10))
