"""A cell may import diffusers while another thread is still importing it, and finds what a plain import leaves."""

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


DEFERRED = """
import sys

import scipy

import diffvis_widget as dv

dv.load()
assert "scipy.stats" not in sys.modules and "stats" not in vars(scipy)
assert not any("__deferred__" in vars(module) for module in sys.modules.values())
from diffusers import DPMSolverMultistepScheduler

scheduler = DPMSolverMultistepScheduler(use_beta_sigmas=True)
scheduler.set_timesteps(5)
assert "beta" in vars(sys.modules["scipy.stats"]) and scipy.stats is sys.modules["scipy.stats"]
print(scheduler.sigmas.tolist())
"""
PLAIN = """
from diffusers import DPMSolverMultistepScheduler

scheduler = DPMSolverMultistepScheduler(use_beta_sigmas=True)
scheduler.set_timesteps(5)
print(scheduler.sigmas.tolist())
"""
INSIDE = """
from diffvis_widget._compat.library_imports import library_imports

with library_imports():
    import scipy.stats
    from scipy.stats import norm
    import scipy.stats.distributions

    assert scipy.stats.norm is norm is scipy.stats.distributions.norm
assert scipy.stats.norm is norm
print("the same")
"""


def test_statistics_are_imported_when_a_scheduler_needs_them() -> None:
    process = run(DEFERRED)
    assert (process.stdout, process.stderr) == (run(PLAIN).stdout, "")


def test_statistics_that_are_used_at_once_are_the_real_ones() -> None:
    process = run(INSIDE)
    assert (process.stdout.split(), process.stderr) == (["the", "same"], "")


def test_schedulers_still_import_statistics() -> None:
    """When this fails, remove `_DeferringLoader`: diffusers imports scipy.stats where it is used."""
    process = run("import sys; from diffusers import DPMSolverMultistepScheduler; print('scipy.stats' in sys.modules)")
    assert process.stdout.split() == ["True"]
