"""One file per trace: it comes back whole, it is written whole or not at all, and a hostile one is refused."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from diffvis_widget.files import open_trace
from diffvis_widget.traces import TraceFileError
from diffvis_widget.traces.file.reader import KEY
from tests.traces.build import make_trace


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"][KEY]), load_file(path)


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_comes_back_whole(tmp_path: Path, keep: str, dtype: Any) -> None:
    trace = make_trace(keep=keep, dtype=dtype)
    trace.prompt = "emoji 👍 שלום <b> \ud800"
    assert trace.save(tmp_path / "run.safetensors") == tmp_path / "run.safetensors"
    back = open_trace(str(tmp_path / "run.safetensors"))
    assert (back.prompt, back.negative_prompt, back.keep) == (trace.prompt, None, keep)
    assert (back.words, back.layers, back.steps, back.meta) == (trace.words, trace.layers, trace.steps, trace.meta)
    for name in ("latents", "predictions", "guidance", "image", "visible_latents"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trace, name))
        assert getattr(back, name).dtype == getattr(trace, name).dtype
    for kind in ("prediction", "latents", "guidance"):
        np.testing.assert_array_equal(back.frames(kind), trace.frames(kind))
    np.testing.assert_array_equal(back.heat_maps(step=1), trace.heat_maps(step=1))
    back.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "run.safetensors").read_bytes()


def test_without_frames_and_guidance(tmp_path: Path) -> None:
    trace = make_trace(guidance=False)
    trace.save(tmp_path / "small", frames=False)
    back = open_trace(tmp_path / "small")
    np.testing.assert_array_equal(back.image, trace.image)
    assert back.guidance is None
    assert not back.has_frames("prediction")
    with pytest.raises(ValueError, match="no pipeline to decode latents"):
        back.frames("prediction")


def test_a_trace_without_a_decoder_and_an_image_is_saved_without_one(tmp_path: Path) -> None:
    back = open_trace(make_trace(decoder=None).save(tmp_path / "run", frames=False))
    assert len(back.steps) == 3
    with pytest.raises(ValueError, match="no pipeline to decode latents"):
        _ = back.image


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": 5}, TypeError, "path must be the path of a file, a text or a pathlib.Path, not 5"),
        ({"path": ""}, ValueError, "path must be the path of a file, not ''"),
        ({"path": "a\0b"}, ValueError, "path must be the path of a file"),
        ({"frames": "no"}, TypeError, "frames must be True or False, not 'no'"),
        ({"compact": 1}, TypeError, "compact must be True or False, not 1"),
    ],
)
def test_arguments_of_save_that_are_refused(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make_trace().save(**{"path": tmp_path / "run", **arguments})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", ["words", "layers", "heads"])
def test_the_negative_prompts_maps_come_back(tmp_path: Path, keep: str) -> None:
    trace = make_trace(keep=keep, negative=True)
    back = open_trace(trace.save(tmp_path / "run", frames=False))
    assert trace.negative is not None
    assert back.negative is not None
    assert back.negative.words == trace.words[:3]
    np.testing.assert_array_equal(back.negative.heat_maps(step=0), trace.negative.heat_maps(step=0))
    assert np.isnan(back.negative.heat_map("red", step=2)).all()
    np.testing.assert_array_equal(back.negative.heat_map("red"), trace.negative.heat_map("red"))
    np.testing.assert_array_equal(back.reused, [[False] * 3, [True, False, True], [False] * 3])


def test_a_run_without_word_maps(tmp_path: Path) -> None:
    back = open_trace(make_trace(layers=[]).save(tmp_path / "run"))
    assert back.layers == []
    assert back.reused.shape == (3, 0)
    with pytest.raises(ValueError, match="no attention to words"):
        back.heat_map("red")


def test_files_where_nothing_can_be_written(tmp_path: Path) -> None:
    trace = make_trace()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        trace.save(tmp_path / "none" / "run.safetensors")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        trace.save(tmp_path)
    with pytest.raises(ValueError, match="without a finished step"):
        make_trace(steps=0).save(tmp_path / "empty")
    trace.meta["odd"] = object()
    with pytest.raises(ValueError, match="meta holds something that JSON cannot"):
        trace.save(tmp_path / "odd")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.traces.build import make_trace
trace, target = make_trace(), Path(sys.argv[1])
trace.save(target)
before = target.read_bytes()
trace.prompt = "another"
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, resource.RLIM_INFINITY))
try:
    trace.save(target)
except OSError as error:
    assert str(target) in str(error) and "MB" in str(error), error
    assert target.read_bytes() == before
    print("refused")
"""


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "run.safetensors")],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.stdout == "refused\n", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_text("old")
    make_trace().save(path)
    assert len(open_trace(path).steps) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a trace",
        b"\x80\x04\x95pickle",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 10) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 8) + b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc",
    ],
)
def test_files_that_are_no_traces(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(TraceFileError, match=r"bad\.safetensors"):
        open_trace(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no trace file"):
        open_trace(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        open_trace(tmp_path)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = make_trace().save(tmp_path / "run.safetensors")
    content = path.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(TraceFileError):
            open_trace(path)


def change(path: tuple[Any, ...], value: Any) -> Any:
    def apply(header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        target: Any = header
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return apply


def drop(name: str) -> Any:
    return lambda header, tensors: tensors.pop(name)


def put(name: str, array: np.ndarray) -> Any:
    return lambda header, tensors: tensors.__setitem__(name, array)


@pytest.mark.parametrize(
    "damage",
    [
        change(("format",), "1"),
        change(("format",), 0),
        change(("keep",), "all"),
        change(("prompt",), None),
        change(("negative_prompt",), 3),
        change(("words",), "red"),
        change(("words",), []),
        change(("words", 0), "red"),
        change(("words", 0, "kind"), "script"),
        change(("words", 0, "tokens"), [-1]),
        change(("words", 0, "tokens"), [True]),
        change(("words", 0, "text"), 1),
        change(("layers", 0, "grid"), [4, 7]),
        change(("layers", 0, "grid"), [4]),
        change(("layers", 0, "grid"), [2**40, 2**40]),
        change(("layers", 0, "heads"), 0),
        change(("layers", 0, "default"), 1),
        change(("layers", 0, "kind"), "self"),
        change(("steps", 0, "timestep"), "late"),
        change(("steps", 0, "sigma"), None),
        change(("steps", 0, "second_order"), 0),
        change(("meta",), []),
        lambda header, tensors: header["steps"].pop(),
        lambda header, tensors: header["words"].pop(),
        lambda header, tensors: header["layers"].pop(),
        drop("latents"),
        drop("predictions"),
        drop("maps.1"),
        drop("pictures.prediction"),
        put("latents", np.zeros((4, 4, 8, 12), dtype=np.float64)),
        put("latents", np.zeros((4, 4), dtype=np.float32)),
        put("predictions", np.zeros((3, 4, 8, 12), dtype=np.float16)),
        put("image", np.zeros((8, 12, 4), dtype=np.uint8)),
        put("guidance", np.zeros((3, 8, 11), dtype=np.float32)),
        put("code", np.zeros(1, dtype=np.uint8)),
    ],
)
def test_a_file_that_contradicts_itself(tmp_path: Path, damage: Any) -> None:
    path = make_trace().save(tmp_path / "run.safetensors")
    header, tensors = parts(path)
    damage(header, tensors)
    save_file(tensors, path, metadata={KEY: json.dumps(header)})
    with pytest.raises(TraceFileError, match=r"run\.safetensors"):
        open_trace(path)


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    path = make_trace().save(tmp_path / "run.safetensors")
    header, tensors = parts(path)
    save_file(tensors, path, metadata={KEY: json.dumps(header | {"format": 99})})
    with pytest.raises(TraceFileError, match="newer version"):
        open_trace(path)


def test_json_meant_to_exhaust_the_reader(tmp_path: Path) -> None:
    path = make_trace().save(tmp_path / "run.safetensors")
    _, tensors = parts(path)
    for text in ("[" * 100_000, "{", "NaN", '{"format": 1e999}', "1" * 5000):
        save_file(tensors, path, metadata={KEY: text})
        with pytest.raises(TraceFileError):
            open_trace(path)


def test_other_safetensors_files_hold_no_trace(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3, dtype=np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(TraceFileError, match="holds no trace"):
        open_trace(tmp_path / "model.safetensors")


def test_the_umask_of_the_process_is_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads share the mask: while it is 0, files of other threads may be written by anyone."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"umask({mask:o}) changes the mask of every thread")

    previous = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        whole, compact = make_trace().save(tmp_path / "whole"), make_trace().save(tmp_path / "compact", compact=True)
        monkeypatch.undo()
        assert [path.stat().st_mode & 0o777 for path in (whole, compact)] == [0o640, 0o640]
    finally:
        monkeypatch.undo()
        os.umask(previous)
