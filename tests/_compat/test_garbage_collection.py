"""The cyclic collector rests while libraries are imported, and is as it was afterwards."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from diffvis_widget._compat.garbage_collection import collection_paused

COLLECTIONS = """
import gc

collections = []
gc.callbacks.append(lambda phase, info: collections.append(info["generation"]) if phase == "start" else None)
{load}
print(len(collections), gc.isenabled())
"""


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def collections_while(load: str) -> tuple[int, bool]:
    """How often the collector ran in a new process, and whether it is on at the end."""
    command = [sys.executable, "-c", COLLECTIONS.format(load=load)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.split()
    return int(output[0]), output[1] == "True"


def test_the_collector_rests_during_a_load_and_works_after_it() -> None:
    """When the plain import collects seldom, remove `_compat/garbage_collection.py`."""
    plain, _ = collections_while("from diffusers import StableDiffusionPipeline")
    loaded, is_enabled = collections_while("import diffvis_widget as dv; pipe = dv.load()")
    assert plain > 500
    assert loaded < plain / 20
    assert is_enabled


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with collection_paused():
        pass
    assert not gc.isenabled()


def test_the_last_of_several_blocks_restores_it() -> None:
    with collection_paused():
        with collection_paused():
            pass
        assert not gc.isenabled()
        with pytest.raises(ValueError, match="inside"), collection_paused():
            raise ValueError("inside")
        assert not gc.isenabled()
    assert gc.isenabled()


def test_blocks_of_several_threads_overlap() -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with collection_paused():
            entered.set()
            leave.wait(60)

    with collection_paused():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(60)
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()
