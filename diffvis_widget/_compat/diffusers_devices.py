"""Reads the device on which a pipeline of diffusers runs its models.

With offloading the modules wait on the CPU (or on "meta"), and `pipe.device` names that device. The device of the
computation is `pipe._execution_device`, whose rule is written in
https://github.com/huggingface/diffusers/blob/main/src/diffusers/pipelines/pipeline_utils.py; diffusers has no
public name for it.
"""

from __future__ import annotations

from typing import Any

import torch


def execution_device(pipe: Any) -> torch.device:
    """Find the device on which the models of a pipeline compute.

    Args:
        pipe: The pipeline, perhaps with offloading.

    Returns:
        The device; that of the pipeline's first module where diffusers does not tell.
    """
    device = getattr(pipe, "_execution_device", None)
    return torch.device(device if device is not None else pipe.device)
