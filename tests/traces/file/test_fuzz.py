"""Hostile files open or are refused, and do nothing else. More cases: `python -m tests.traces.file.fuzz 10000`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from diffvis_widget.files import open_trace
from diffvis_widget.traces import Note, StoredTensors, TraceFileError
from diffvis_widget.traces.file.header import read_header
from diffvis_widget.traces.file.image_codec import MAX_PIXELS, decode, decode_png
from diffvis_widget.traces.file.reader import KEY
from diffvis_widget.traces.file.safetensors_reader import MAX_HEADER, strict_json
from tests.traces.build import make_trace
from tests.traces.file import fuzz
from tests.traces.file.test_file import parts

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.skipif(sys.platform != "linux", reason="bounds the memory of the process, as Linux can")
def test_a_few_hundred_hostile_files() -> None:
    opened, refused = fuzz.run(400)
    assert opened > 10, "cases must be near enough to real files for some to open"
    assert refused > 200


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = make_trace().save(tmp_path_factory.mktemp("good") / "run")
    return parts(path)[0]


@QUICK
@given(data=st.data())
def test_any_json_in_any_field_of_the_header(good: dict[str, Any], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(good)))
    document = good | {field: data.draw(JSON)}
    try:
        header = read_header(document)
    except TraceFileError:
        return
    assert header.words or header.prompt is not None  # what is accepted is a whole header


@QUICK
@given(data=st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any"
    for begin in (b"", b"DVR1", (100).to_bytes(8, "little")):
        path.write_bytes(begin + data)
        with pytest.raises(TraceFileError):
            open_trace(path)
    for read in (lambda: decode(data, (8, 8)), lambda: decode_png(data)):
        with pytest.raises(TraceFileError):
            read()


corner = st.floats(0, 1)
notes = st.builds(
    Note,
    st.text(min_size=1, max_size=40).filter(str.strip),
    st.none() | st.integers(0, 100_000),
    st.lists(st.text(max_size=9) | st.integers(0, 99), max_size=3).map(tuple),
    st.none() | st.tuples(corner, corner, corner, corner).filter(lambda r: r[0] < r[2] and r[1] < r[3]),
)


@QUICK
@given(note=notes)
def test_every_note_comes_back(note: Note) -> None:
    assert Note.read(json.loads(json.dumps(note.header())), StoredTensors({}, "notes.0")) == note


@pytest.mark.parametrize("text", ["NaN", '{"meta": [1, Infinity]}', "-Infinity"])
def test_no_number_of_a_header_is_not_one(text: str) -> None:
    with pytest.raises(TraceFileError, match="which JSON does not have"):
        strict_json(text)


def test_nan_in_meta_is_not_written_and_nan_in_tensors_is_data(tmp_path: Path) -> None:
    trace = make_trace()
    trace.meta["strength"] = float("nan")
    with pytest.raises(ValueError, match="meta holds something that JSON cannot"):
        trace.save(tmp_path / "run")
    trace.meta["strength"] = 1.0
    trace.records[1].prediction[:] = np.nan
    trace.records[1].maps[0][:] = np.nan
    assert np.isnan(open_trace(trace.save(tmp_path / "run")).predictions[1]).all()


@pytest.mark.parametrize("size", [(12, 8), (9, 12), (16383, 16383)])
def test_an_image_of_another_size_than_stated_is_not_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_trace().save(tmp_path / "run")
    header, tensors = parts(path)
    bomb = tmp_path / "bomb.webp"
    Image.new("L", (min(size[1], 4000), min(size[0], 4000))).save(bomb, lossless=True)
    data = bytearray(bomb.read_bytes())
    if size[0] > 4000:  # no library has to be trusted to have made it: the first bytes are enough
        data[21:25] = ((size[1] - 1) | (size[0] - 1) << 14).to_bytes(4, "little")
    tensors["pictures.prediction"] = np.frombuffer(bytes(data) * 3, dtype=np.uint8)
    header["pictures"]["lengths"]["prediction"] = [len(data)] * 3
    save_file(tensors, path, metadata={KEY: json.dumps(header)})
    back = open_trace(path)
    with pytest.raises(TraceFileError, match=r"an image in it is \(.*, not \(8, 12\)"):
        back.frames("prediction")


def test_headers_that_ask_for_more_than_is_stated(tmp_path: Path) -> None:
    path = make_trace().save(tmp_path / "run")
    header, tensors = parts(path)
    side = int(MAX_PIXELS**0.5)
    header["pictures"]["size"] = [side, side + 1]
    save_file(tensors, path, metadata={KEY: json.dumps(header)})
    with pytest.raises(TraceFileError, match="pixels, more than a trace may have"):
        open_trace(path)
    save_file(tensors, path, metadata={KEY: json.dumps(header) + " " * MAX_HEADER})
    with pytest.raises(TraceFileError, match="its header claims"):
        open_trace(path)


def test_opening_a_large_file_reads_its_header_alone(tmp_path: Path) -> None:
    """A sparse file of a gigabyte: were its tensors read, it would take seconds and a gigabyte."""
    path = make_trace(keep="heads").save(tmp_path / "run", frames=False)
    header, tensors = parts(path)
    grid = (256, 256)
    header["layers"] = [{"name": "a", "kind": "cross", "heads": 310, "grid": grid, "default": True}]
    shapes = {"maps.0": ("F16", (3, 310, len(header["words"]), *grid))}
    shapes |= {name: ("F32", tensors[name].shape) for name in ("guidance", "latents", "predictions")}
    entries: dict[str, Any] = {"__metadata__": {KEY: json.dumps(header)}}
    at = 0
    for name, (dtype, shape) in shapes.items():
        size = int(np.prod(shape)) * (2 if dtype == "F16" else 4)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    assert path.stat().st_size > 2**30
    if sys.platform == "linux":
        assert _touched(lambda: open_trace(path)) < 20 * 2**20
    assert open_trace(path).heat_map(1, step=2, head=3).shape == grid


def _touched(act: Any) -> int:
    """Bytes of memory that an act adds to what the process holds."""

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    before = resident()
    result = act()
    grown = resident() - before
    del result
    return grown
