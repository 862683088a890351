"""Stored results as named tensors of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces.errors import TraceFileError
from diffvis_widget.traces.printable import printable
from diffvis_widget.traces.results import StoredResult, StoredTensors, check_results, result_kinds

from .header import Header

DTYPES = ("float16", "float32", "uint8")


def result_tensors(stored: Mapping[str, Sequence[StoredResult]], with_optional: bool = True) -> dict[str, NDArray[Any]]:
    """Names the tensors of all stored results.

    Args:
        stored: the results by kind.
        with_optional: whether to include tensors that a compact file may leave out.

    Returns:
        The tensors by full name; other floating dtypes become float32.

    Raises:
        ValueError: a tensor is empty, or of a dtype that a file cannot hold.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for kind, results in stored.items():
        for index, result in enumerate(results):
            names = StoredTensors({}, _label(result, index))
            for name, array in result.tensors().items():
                if with_optional or name not in result.optional_tensors:
                    tensors[names.full_name(name)] = _storable(kind, name, array)
    return tensors


def _label(kind: StoredResult | type[StoredResult], index: int) -> str:
    return kind.kind if kind.single else f"{kind.kind}.{index}"


def _storable(kind: str, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.name not in DTYPES and array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.dtype.name not in DTYPES or not array.size or not array.ndim:
        raise ValueError(
            f"{kind}: the tensor {name!r} is {array.dtype.name} {array.shape}; it must be one of {', '.join(DTYPES)} "
            "and not empty"
        )
    return np.ascontiguousarray(array)


def read_results(header: Header, tensors: Mapping[str, NDArray[Any]]) -> dict[str, list[StoredResult]]:
    """Reads all stored results of a file and checks them against its run.

    Args:
        header: the header of the file.
        tensors: the tensors of stored results by full name; those of unknown kinds are ignored.

    Returns:
        The results by kind.

    Raises:
        TraceFileError: a tensor is missing, or belongs to no result.
        ValueError: a result does not belong to the run.
        KeyError: a result names a word that the prompt does not have.
    """
    kinds = result_kinds()
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for full_name, tensor in tensors.items():
        label, name = _split(full_name, kinds)
        groups.setdefault(label, {})[name] = tensor
    unread = {name for name in tensors if name.split(".")[0] not in header.unknown_results}
    stored: dict[str, list[StoredResult]] = {name: [] for name in kinds}
    for kind, headers in header.results.items():
        for index, fields in enumerate(headers):
            label = _label(kinds[kind], index)
            parts = StoredTensors(groups.get(label, {}), label)
            stored[kind].append(kinds[kind].read(fields, parts))
            unread -= {parts.full_name(name) for name in parts.names_read}
    if unread:
        raise TraceFileError(f"it holds parts that no trace has: {', '.join(map(printable, sorted(unread)[:5]))}")
    check_results(header, stored)
    return stored


def _split(full_name: str, kinds: Mapping[str, type[StoredResult]]) -> tuple[str, str]:
    """The label of a result and the name of its tensor."""
    kind, _, rest = full_name.partition(".")
    if kind in kinds and kinds[kind].single:
        return kind, rest
    index, _, name = rest.partition(".")
    return f"{kind}.{index}", name
