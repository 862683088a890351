"""Writes files whole or not at all. Everything that the package saves for its user goes through `write_whole`."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError


def check_destination(path: str | os.PathLike[str]) -> Path:
    """Checks that a file can be written at a path, before the work of making it.

    Args:
        path: of the file.

    Returns:
        The path that will be written: that of the target where ``path`` is a symbolic link.

    Raises:
        FileNotFoundError: the folder does not exist.
        IsADirectoryError: the path is that of a folder.
        PermissionError: the file may not be written to.
        OSError: something else than a regular file is there: a device, a pipe or a socket.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")
    real = Path(os.path.realpath(target))
    try:
        existing = os.stat(target)
    except FileNotFoundError:
        if not real.parent.is_dir():  # a link to what is not there
            raise FileNotFoundError(
                f"cannot write {target}: it is a link to {real}, and the folder {real.parent} does not exist"
            ) from None
        return real
    except OSError as error:
        raise type(error)(f"cannot write {target}: {error}") from error
    if stat.S_ISDIR(existing.st_mode):
        raise IsADirectoryError(f"cannot write {target}: it is a folder; name a file in it")
    if not stat.S_ISREG(existing.st_mode) or _is_stream(target):
        raise OSError(f"cannot write {target}: it is {_kind(existing.st_mode)}, not a regular file; name another file")
    if not os.access(real, os.W_OK):
        raise PermissionError(f"cannot write {target}: the file is read-only; change its mode, or name another file")
    return real


def write_whole(path: str | os.PathLike[str], size: int, write: Callable[[str], object]) -> Path:
    """Writes a file by way of a temporary file beside it and one rename: readers see the old file or the new one.

    A symbolic link stays, and its target is written. A file that is replaced hands down its mode, and its owner and
    group where the process may set them. Other names of the same file (hard links) keep the old content.

    Args:
        path: of the file.
        size: its approximate size in bytes, for errors.
        write: writes the file whose name it is given.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; nothing is left half-written. See `check_destination` for what is refused.
    """
    target = Path(path)
    real = check_destination(target)
    try:
        # no other user can enter the folder, so the content is private until it has the mode of the file
        folder = tempfile.mkdtemp(prefix=f".{real.name[:64]}.", suffix=".part", dir=real.parent)
    except OSError as error:
        raise type(error)(f"cannot write {target}: {error}") from error
    try:
        name = os.path.join(folder, "file")
        # the kernel applies the mask of the process, which cannot be read without setting it
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = stat.S_IMODE(os.stat(name).st_mode)
        write(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, _handed_down(name, os.stat(real)) if real.exists() else mode)
        os.replace(name, real)
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write {target} ({size / 2**20:.1f} MB): {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def write_bytes_whole(path: str | os.PathLike[str], data: bytes) -> Path:
    """Writes bytes to a file; see `write_whole`.

    Args:
        path: of the file.
        data: its content.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written; nothing is left half-written.
    """
    return write_whole(path, len(data), lambda name: Path(name).write_bytes(data))


def _handed_down(name: str, existing: os.stat_result) -> int:
    """The mode of a file that is replaced; the new file gets its owner and group first, as far as that is allowed."""
    mode = stat.S_IMODE(existing.st_mode) & 0o777
    created = os.stat(name)
    if (created.st_uid, created.st_gid) == (existing.st_uid, existing.st_gid):
        return mode
    for owner in (existing.st_uid, -1):
        try:
            os.chown(name, owner, existing.st_gid)
        except OSError:
            continue
        return mode
    return mode & ~0o070  # these rights were meant for another group


def _is_stream(path: Path) -> bool:
    """Whether a path names an open file of the process, such as /dev/stdout, whatever that is."""
    folder = os.path.realpath(path.parent)
    return folder == "/dev" or folder.startswith("/proc/")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "an open stream")
