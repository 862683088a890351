"""A file that is too large for memory is read part by part on use, and one that changed meanwhile raises an error."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffvis_widget.files import open_trace
from diffvis_widget.traces import Trace, TraceFileError
from diffvis_widget.traces.file import reader
from diffvis_widget.traces.file.file_arrays import FileBytes, RecordInFile
from tests.traces.results.test_stored_results import check_same_results, with_results

READS: dict[str, Callable[[Trace], Any]] = {
    "latents": lambda trace: trace.latents,
    "visible_latents": lambda trace: trace.visible_latents,
    "predictions": lambda trace: trace.predictions,
    "guidance": lambda trace: trace.guidance,
    "heat_map": lambda trace: trace.heat_map("circle", step=-1),
    "heat_map of a layer": lambda trace: trace.heat_map(1, step=2, layer=2),
    "negative": lambda trace: trace.negative and trace.negative.heat_map("red", step=0),
    "frames": lambda trace: trace.frames("prediction"),
    "frame": lambda trace: trace.frame("latents", -1),
}
every_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


def open_on_use(path: Path) -> Trace:
    """Opens a small file as if it were too large for memory."""
    return Trace.from_content(reader.read_content(path, in_memory=0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return with_results(negative=True).save(tmp_path / "run")


@every_read
@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
def test_arrays_that_are_read_on_use_are_those_in_memory(
    tmp_path: Path, keep: str, read: Callable[[Trace], Any]
) -> None:
    path = with_results(negative=True, keep=keep).save(tmp_path / "run")
    small, large = open_trace(path), open_on_use(path)
    assert isinstance(large.records[0], RecordInFile)
    assert not isinstance(small.records[0], RecordInFile)
    if keep == "words" and read is READS["heat_map of a layer"]:
        return  # the file holds one mean of all layers
    np.testing.assert_array_equal(read(large), read(small))


def test_results_image_and_settings_are_those_in_memory(path: Path) -> None:
    small, large = open_trace(path), open_on_use(path)
    check_same_results(large, small)
    np.testing.assert_array_equal(large.image, small.image)
    np.testing.assert_array_equal(large.reused, small.reused)
    assert (large.steps, large.words, large.layers, large.meta) == (small.steps, small.words, small.layers, small.meta)
    assert 0.8 < large.nbytes / small.nbytes <= 1
    assert not large.is_compact


def test_saving_it_again_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    again = open_on_use(path).save(tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()
    large = open_on_use(path)
    large.save(path)  # over itself: it goes on with the file that it opened
    np.testing.assert_array_equal(large.latents, open_trace(again).latents)


def test_a_pickled_trace_holds_its_arrays_and_a_copy_reads_them(path: Path) -> None:
    large = open_on_use(path)
    record = large.records[1]
    pickled, copied, deep = pickle.loads(pickle.dumps(large)), copy.copy(large), copy.deepcopy(large)
    os.unlink(path)
    for other in (pickled, copied, deep):
        np.testing.assert_array_equal(other.records[1].result, record.result)
        np.testing.assert_array_equal(other.heat_map("circle", step=1), large.heat_map("circle", step=1))
        np.testing.assert_array_equal(other.frame("prediction", 1), large.frame("prediction", 1))
    assert type(pickled.records[1]).__name__ == "Record"
    assert deep.records[1] is record
    with pytest.raises(AttributeError, match="no attribute 'mapz'"):
        _ = record.mapz  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be truncated there")
@every_read
@pytest.mark.parametrize("size", [0, 20_000])
def test_a_file_that_is_truncated_while_it_is_open_raises(path: Path, read: Callable[[Trace], Any], size: int) -> None:
    small, large = open_trace(path), open_on_use(path)
    expected = read(open_trace(path))
    os.truncate(path, size)
    with pytest.raises(TraceFileError, match=r"was (truncated|changed) while it was in use.* open it again"):
        read(large)
    np.testing.assert_array_equal(read(small), expected, "a file in memory does not change")


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be truncated there")
def test_a_short_read_says_how_much_is_left(path: Path) -> None:
    large = open_on_use(path)
    os.truncate(path, 10)
    with pytest.raises(TraceFileError, match=r"run was truncated while it was in use: 0 of \d+ bytes are left at byte"):
        _ = large.latents


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be truncated there")
@every_read
def test_a_file_that_is_rewritten_in_place_raises(path: Path, read: Callable[[Trace], Any]) -> None:
    large = open_on_use(path)
    before = path.stat()
    with open(path, "r+b") as file:
        file.seek(-100, 2)
        file.write(b"x" * 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(TraceFileError, match="was changed while it was in use: open it again"):
        read(large)


def test_a_file_that_is_replaced_goes_on_as_it_was(path: Path, tmp_path: Path) -> None:
    large = open_on_use(path)
    expected = large.predictions
    (tmp_path / "other").write_bytes(b"something else")
    os.replace(tmp_path / "other", path)
    np.testing.assert_array_equal(large.predictions, expected)


def test_results_of_any_size_are_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_RESULTS", 100)
    with pytest.raises(TraceFileError, match="its stored results take"):
        open_on_use(path)
    assert open_trace(path).saliency


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the open files of the process, as Linux can")
def test_no_file_stays_open(path: Path) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_trace(path)
        _ = open_on_use(path).latents
        with pytest.raises(TraceFileError):
            reader.read_content(Path(__file__), in_memory=0)
    gc.collect()  # the frames of the errors
    assert len(os.listdir("/proc/self/fd")) <= before


def test_reads_do_not_depend_on_preadv(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such call."""
    expected = open_trace(path).predictions
    monkeypatch.delattr(os, "preadv", raising=False)
    np.testing.assert_array_equal(open_on_use(path).predictions, expected)
    assert FileBytes(path).read(2, 5) == path.read_bytes()[2:7]
