"""Selects rows of the batch in arguments of a denoiser."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from diffvis_widget.tracer.families import Family


def pick_argument_rows(name: str, value: Any, index: Tensor, batch: int, family: Family) -> Any:
    """Select rows of an argument of the denoiser.

    Args:
        name: Name of the argument.
        value: Its value in a call with `batch` rows.
        index: int64 (rows,), which rows to take.
        batch: Rows of the call.
        family: Says along which axis the rows of this argument lie.

    Returns:
        The argument for a call with `len(index)` rows.
    """
    axis = family.batch_axes.get(name, 0)
    if axis is None:
        return value
    return value.index_select(axis, index.to(value.device)) if axis else pick_rows(value, index, batch)


def pick_rows(value: Any, index: Tensor, batch: int) -> Any:
    """Select rows of a nested argument of the denoiser.

    Args:
        value: Tensors, dictionaries, lists and tuples; whatever has one entry per row of the batch is selected from.
        index: int64 (rows,), which rows to take.
        batch: Rows of the call.

    Returns:
        The argument for a call with `len(index)` rows.
    """
    if isinstance(value, Tensor):
        if value.ndim and len(value) == batch:
            return value.index_select(0, index.to(value.device))
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: pick_rows(item, index, batch) for name, item in value.items()}
    if isinstance(value, list | tuple):
        # a list of rows, unless its entries have one row per row of the batch themselves; a tuple has other entries
        per_row = isinstance(value, list) and len(value) == batch
        if per_row and not all(isinstance(item, Tensor) and item.ndim and len(item) == batch for item in value):
            return [value[row] for row in index.tolist()]
        return type(value)(pick_rows(item, index, batch) for item in value)
    return value
