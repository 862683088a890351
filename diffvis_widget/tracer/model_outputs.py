"""Reads what models and schedulers of diffusers return: a tensor, or a tuple or output class that begins with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def first_entry(output: Any) -> Any:
    """Take the main result.

    Args:
        output: A tensor; or a tuple or an output of diffusers.

    Returns:
        The tensor itself, or the first entry.
    """
    return output if isinstance(output, Tensor) else output[0]


def prediction(output: Any, rows: slice = slice(None)) -> Tensor:
    """Take rows of what a denoiser returned.

    Args:
        output: As for `first_entry`; the first entry is a tensor or a list of rows.
        rows: Rows of the batch.

    Returns:
        (n, ...), these rows.
    """
    values = first_entry(output)
    return values[rows] if isinstance(values, Tensor) else torch.stack(list(values[rows]))
