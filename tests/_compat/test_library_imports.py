"""A cell may import diffusers while another thread is still importing it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# one thread imports the library as LOADER does; the main thread imports a name from it in the middle of that
RACE = """
import importlib
import sys
import threading

import diffvis_widget as dv

started = threading.Event()
sys.addaudithook(lambda event, args: started.set() if event == "import" and args[0].startswith("{library}.") else None)
loading = threading.Thread(target={loader})
loading.start()
started.wait()
from {library} import {name}

assert {name}.__name__ == "{name}"
loading.join()
assert not any(type(finder).__module__.startswith("diffvis") for finder in sys.meta_path)
print("imported")
"""
TWO_LOADS = """
import threading

import diffvis_widget as dv

other = threading.Thread(target=lambda: print(type(dv.load()).__name__))
other.start()
print(type(dv.load()).__name__)
other.join()
"""
NAMES = [("diffusers", "StableDiffusionXLPipeline"), ("transformers", "CLIPTextModelWithProjection")]


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(("library", "name"), NAMES)
def test_a_second_thread_gets_the_whole_library(library: str, name: str) -> None:
    process = run(RACE.format(library=library, name=name, loader="dv.load"))
    assert (process.stdout.split(), process.stderr) == (["imported"], "")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="its later releases may have python/cpython#143650 fixed")
@pytest.mark.parametrize(("library", "name"), NAMES)
def test_the_workaround_is_still_needed(library: str, name: str) -> None:
    """When this fails, remove `_compat/library_imports.py`: the library imports safely by itself."""
    process = run(RACE.format(library=library, name=name, loader=f"lambda: importlib.import_module('{library}')"))
    assert f"ImportError: cannot import name '{name}' from '{library}'" in process.stderr


def test_two_threads_load_the_scenes_model() -> None:
    process = run(TWO_LOADS)
    assert (process.stdout.split(), process.stderr) == (["StableDiffusionPipeline"] * 2, "")
