"""Gives a copy of a modular pipeline blocks of its own.

`ModularPipeline.blocks` returns a copy, and there is no way to set it: settings such as the progress bar's are kept in
the pipeline's private blocks, which a shallow copy shares
(https://github.com/huggingface/diffusers/blob/main/src/diffusers/modular_pipelines/modular_pipeline.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def give_own_blocks(pipe: Any) -> None:
    """Replace the blocks of a modular pipeline by a copy of them.

    Args:
        pipe: A copy of a modular pipeline. Where diffusers keeps its blocks elsewhere, they stay shared.
    """
    if "_blocks" in vars(pipe):
        pipe._blocks = pipe.blocks


def own_blocks(pipe: Any) -> Mapping[str, Any]:
    """Look up the blocks that a modular pipeline calls, not copies of them.

    Args:
        pipe: A modular pipeline.

    Returns:
        Its outermost blocks by name; none where diffusers keeps them elsewhere.
    """
    blocks = vars(pipe).get("_blocks")
    return {} if blocks is None else blocks.sub_blocks
