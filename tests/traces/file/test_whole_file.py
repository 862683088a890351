"""Saving replaces the content of a file, and nothing else: links stay links, modes stay, and devices are refused."""

from __future__ import annotations

import ast
import os
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.traces import ConceptScores, Trace
from diffvis_widget.traces.file.whole_file import check_destination, write_bytes_whole, write_whole
from tests.traces.build import make_trace

Writer = Callable[[Trace, Path], Any]
WRITERS: dict[str, Writer] = {
    "whole": lambda trace, path: trace.save(path),
    "compact": lambda trace, path: trace.save(path, compact=True),
    "html": lambda trace, path: dv.to_html(trace, path),
    "png": lambda trace, path: dv.export.png(trace, path, step=1, size=64),
    "filmstrip": lambda trace, path: dv.export.filmstrip(trace, path, size=32),
    "webp": lambda trace, path: dv.export.webp(trace, path, size=32),
    "gif": lambda trace, path: dv.export.gif(trace, path, size=32),
    "csv": lambda trace, path: dv.export.csv(trace, path),
    "bytes": lambda trace, path: write_bytes_whole(path, b"data"),
}
every_writer = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
PACKAGE = Path(dv.__file__).parent


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = make_trace()
    floats = np.random.default_rng(1).random((3, 2)).astype(np.float32)
    trace.scores = ConceptScores(["circle", "red"], floats, floats, floats, np.ones(2, "f4"), "a meter")
    return trace


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@every_writer
def test_a_link_stays_and_its_target_is_written(trace: Trace, tmp_path: Path, write: Writer) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link, outer = tmp_path / "elsewhere" / "target", tmp_path / "link", tmp_path / "outer"
    target.write_text("x")
    link.symlink_to(Path("elsewhere", "target"))
    outer.symlink_to(link)
    write(trace, outer)
    assert link.is_symlink()
    assert outer.is_symlink()
    assert target.read_bytes() not in (b"x", b"")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "link", "outer", "target"]


@posix
@every_writer
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664, 0o777])
def test_the_mode_of_a_file_stays(trace: Trace, tmp_path: Path, write: Writer, bits: int) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(bits)
    write(trace, path)
    assert mode(path) == bits
    assert path.read_bytes() != b"x"


@posix
@every_writer
@pytest.mark.parametrize(("mask", "bits"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_process(
    trace: Trace, tmp_path: Path, write: Writer, mask: int, bits: int
) -> None:
    previous = os.umask(mask)
    try:
        write(trace, tmp_path / "file")
    finally:
        os.umask(previous)
    assert mode(tmp_path / "file") == bits


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def a_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_to_a_folder(path: Path) -> None:
    path.with_name("other").mkdir()
    path.symlink_to(path.with_name("other"))


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def a_link_into_no_folder(path: Path) -> None:
    path.symlink_to(path.with_name("missing") / "file")


OTHERS = [a_pipe, a_socket, a_link_to_a_device, a_link_to_a_pipe, a_folder, a_link_to_a_folder, a_link_to_itself,
          a_link_into_no_folder]  # fmt: skip


@posix
@every_writer
@pytest.mark.parametrize("make", OTHERS)
def test_what_is_no_regular_file_is_refused(
    trace: Trace, tmp_path: Path, write: Writer, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "p"
    make(path)
    before = {entry: os.lstat(entry) for entry in [path, *tmp_path.rglob("*")]}
    with pytest.raises(OSError, match=r"cannot write .*"):
        write(trace, path)
    assert {entry: os.lstat(entry).st_ino for entry in [path, *tmp_path.rglob("*")]} == {
        entry: status.st_ino for entry, status in before.items()
    }
    assert os.lstat(path).st_mode == before[path].st_mode


@posix
@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_devices_and_open_streams_are_refused(trace: Trace, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip("this system has none")
    before = os.stat(path)
    for write in WRITERS.values():
        with pytest.raises(OSError, match="not a regular file"):
            write(trace, Path(path))
    assert os.path.samestat(before, os.stat(path))


@posix
def test_a_link_to_a_file_that_is_gone_makes_it(trace: Trace, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    trace.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert dv.open_trace(tmp_path / "target").prompt == trace.prompt


@posix
def test_nobody_else_can_read_a_private_file_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(0o600)
    seen: list[int] = []

    def write(name: str) -> None:
        Path(name).unlink()  # as libraries do that make the file anew
        Path(name).write_bytes(b"secret")
        seen.append(mode(Path(name).parent))

    write_whole(path, 6, write)
    assert seen == [0o700]
    assert mode(path) == 0o600


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_group_stay(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    trace.save(path)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 23456, 0o640)


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write every file")
def test_a_read_only_file_is_refused(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="the file is read-only"):
        trace.save(path)
    assert path.read_text() == "x"


@posix
def test_another_name_of_the_file_keeps_the_old_content(trace: Trace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.link(tmp_path / "file", tmp_path / "other")
    trace.save(tmp_path / "file")
    assert (tmp_path / "other").read_text() == "x"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")

    def write(name: str) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match=r"cannot write .* \(2\.0 MB\): disk full"):
        write_whole(path, 2 * 2**20, write)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "x"


def test_the_destination_is_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        check_destination(tmp_path / "missing" / "file")
    assert check_destination(tmp_path / "file") == Path(os.path.realpath(tmp_path / "file"))


def test_nothing_else_in_the_package_writes_a_file() -> None:
    """But developers' tools, the log of ffmpeg in a temporary folder, and studies, which rename whole files."""
    developers = ("scenes/training/", "scenes/evaluation/", "explain/evaluation/", "scenes/architecture.py")
    developers += ("scenes/page/graphs.py", "scenes/record_quickstart.py")
    others = ("traces/file/whole_file.py", "export/video.py", "studies/parts.py", "studies/manifest.py")
    writers: list[str] = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(developers) or name in others:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func).rsplit(".", 1)[-1]
            modes = [ast.unparse(argument) for argument in node.args[:2]]
            if function in ("write_bytes", "write_text", "mkstemp", "NamedTemporaryFile", "replace_file"):
                writers.append(f"{name}: {ast.unparse(node)}")
            if function in ("open", "fdopen") and any(part.strip("'") in ("w", "wb", "a", "ab", "x") for part in modes):
                writers.append(f"{name}: {ast.unparse(node)}")
    assert not writers
