"""A cell may import diffusers while a widget in another thread is still at it."""

from __future__ import annotations

import subprocess
import sys

import pytest

ONE_IMPORTS = """
import sys
import threading

import diffvis_widget as dv

begun = threading.Event()
sys.addaudithook(lambda event, told: begun.set() if event == "import" and told[0].startswith("{library}.") else None)
loading = threading.Thread(target=dv.load)
loading.start()
begun.wait()  # into the middle of the other thread's import
from {library} import {name}

assert {name}.__name__ == "{name}"
loading.join()
assert not any(type(finder).__module__.startswith("diffvis") for finder in sys.meta_path)
print("whole")
"""
BOTH_LOAD = """
import threading

import diffvis_widget as dv

other = threading.Thread(target=lambda: print(type(dv.load()).__name__))
other.start()
print(type(dv.load()).__name__)
other.join()
"""


def run(program: str) -> str:
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert not ended.returncode, ended.stderr
    assert not ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("library", "name"), [("diffusers", "StableDiffusionXLPipeline"), ("transformers", "CLIPTextModelWithProjection")]
)
def test_a_second_thread_gets_the_whole_library(library: str, name: str) -> None:
    assert run(ONE_IMPORTS.format(library=library, name=name)).split() == ["whole"]


def test_two_threads_load_the_scenes_model() -> None:
    assert run(BOTH_LOAD).split() == ["StableDiffusionPipeline"] * 2
