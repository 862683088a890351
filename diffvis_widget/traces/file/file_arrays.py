"""Arrays in a file that is too large for memory, read part by part on use.

No file is mapped into memory: where a mapped file is truncated in place, the operating system ends the process. Here a
read that comes back short, or from a file that has changed, raises an error that says so.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.types import Record, Step


class FileBytes:
    """The bytes of an open file. Saving another file under its name leaves it as it is.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._descriptor)
        self._lock = threading.Lock()
        self._state = self._stat()

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._state[0]

    def read(self, offset: int, count: int) -> bytearray:
        """Reads a part of the file.

        Args:
            offset: of its first byte.
            count: how many bytes.

        Returns:
            The bytes.

        Raises:
            TraceFileError: the file was truncated, or changed otherwise, since it was opened.
        """
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            length = self._read_into(view[done:], offset + done)
            if not length:
                raise TraceFileError(
                    f"{self.path} was truncated while it was in use: {done} of {count} bytes are left at byte "
                    f"{offset}; restore the file and open it again"
                )
            done += length
        if self._stat() != self._state:
            raise TraceFileError(f"{self.path} was changed while it was in use: open it again")
        return data

    def _read_into(self, view: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [view], offset)
        with self._lock:  # Windows and macOS of old have no such call
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            part = os.read(self._descriptor, len(view))
            view[: len(part)] = part
            return len(part)

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


class ArrayInFile:
    """An array in a file. Its parts are read when they are taken, and are not kept.

    Args:
        file: the file.
        dtype: of the array.
        shape: of the array.
        offset: of its first byte.
    """

    def __init__(self, file: FileBytes, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> None:
        self.file = file
        self.dtype = dtype
        self.shape = shape
        self.offset = offset

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: int) -> NDArray[Any]:
        part = math.prod(self.shape[1:]) * self.dtype.itemsize
        data = self.file.read(self.offset + index * part, part)
        return _as_array(data, self.dtype, self.shape[1:])

    def read(self) -> NDArray[Any]:
        """Reads the whole array.

        Returns:
            The array, read-only.

        Raises:
            TraceFileError: the file has changed.
        """
        return _as_array(self.file.read(self.offset, self.nbytes), self.dtype, self.shape)


def _as_array(data: bytearray, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.frombuffer(data, dtype).reshape(shape)
    array.flags.writeable = False
    return array


class BytesInFile:
    """Some bytes of a file, read by ``bytes(...)``.

    Args:
        file: the file.
        offset: of the first byte.
        length: how many.
    """

    def __init__(self, file: FileBytes, offset: int, length: int) -> None:
        self._file, self._offset, self._length = file, offset, length

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return bytes(self._file.read(self._offset, self._length))

    def __deepcopy__(self, memo: dict[int, Any]) -> BytesInFile:
        return self  # nothing of it can be changed

    def __reduce__(self) -> Any:
        return bytes, (bytes(self),)


class MapsInFile(Sequence[NDArray[np.float16]]):
    """The attention maps of one step, one array per layer, each read when it is taken.

    Args:
        layers: of each layer, the maps of all steps.
        index: of the step.
    """

    def __init__(self, layers: Sequence[ArrayInFile], index: int) -> None:
        self._layers, self._index = layers, index

    def __len__(self) -> int:
        return len(self._layers)

    @overload
    def __getitem__(self, layer: int) -> NDArray[np.float16]: ...
    @overload
    def __getitem__(self, layer: slice) -> Sequence[NDArray[np.float16]]: ...
    def __getitem__(self, layer: int | slice) -> Any:
        if isinstance(layer, slice):
            return MapsInFile(self._layers[layer], self._index)
        return self._layers[layer][self._index]

    def __reduce__(self) -> Any:
        return tuple, (list(self),)


class RecordInFile(Record):
    """A record whose arrays are read from the file when they are taken. Pickled, it holds them itself.

    Args:
        step: see `Record`.
        visible: see `Record`.
        reused: see `Record`.
        arrays: the arrays of all steps, by the name of the field; ``result`` is the next item of ``latents``.
        maps: the maps of all steps per layer, by the name of the field.
    """

    __slots__ = ("_arrays", "_maps")
    _arrays: dict[str, ArrayInFile]
    _maps: dict[str, list[ArrayInFile]]

    def __init__(
        self,
        step: Step,
        visible: float,
        reused: tuple[int, ...],
        arrays: dict[str, ArrayInFile],
        maps: dict[str, list[ArrayInFile]],
    ) -> None:
        # The fields for arrays stay unset: __getattr__ is called for them.
        for name, value in {
            "step": step, "visible": visible, "reused": reused, "_arrays": arrays, "_maps": maps,
        }.items():  # fmt: skip
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in ("latents", "prediction", "guidance", "refined"):
            array: ArrayInFile | None = self._arrays.get(name)
            return None if array is None else array[self.step.index]
        if name == "result":
            return self._arrays["latents"][self.step.index + 1]
        if name in ("maps", "negative", "outputs"):
            layers: list[ArrayInFile] | None = self._maps.get(name)
            return None if layers is None else MapsInFile(layers, self.step.index)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __deepcopy__(self, memo: dict[int, Any]) -> RecordInFile:
        return self  # nothing of it can be changed

    def __reduce__(self) -> Any:
        values = (self.step, self.latents, self.result, self.prediction, self.guidance, self.visible)
        maps = (None if part is None else tuple(part) for part in (self.negative, self.outputs))
        negative, outputs = maps
        return Record, (*values, tuple(self.maps), negative, self.reused, outputs, self.refined)

    def arrays(self) -> list[ArrayInFile]:
        """Lists the arrays of all steps; see `Record.arrays`.

        Returns:
            The arrays, the same objects for every record of the file.
        """
        return [*self._arrays.values(), *(layer for layers in self._maps.values() for layer in layers)]
