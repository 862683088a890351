"""Matrix products in full float32, whatever precision the process has chosen for float32 products.

With TF32 (CUDA) or bfloat16 (oneDNN on CPUs) torch rounds the factors of float32 products to 11 or 8 bits. The setting
is process-wide, so it is not switched off here: another thread may depend on it. Instead, factors are split into parts
that such products take without rounding. The setting is read by `fp32_precision`, because reading `allow_tf32` raises
once a program has used the newer interface: https://github.com/pytorch/pytorch/issues/179445 and
https://pytorch.org/docs/main/notes/cuda.html#tensorfloat-32-tf32-on-ampere-and-later-devices
"""

from __future__ import annotations

import torch
from torch import Tensor


def rounds_float32(device: torch.device) -> bool:
    """Whether float32 products on a device are computed from rounded factors.

    Args:
        device: The device.

    Returns:
        True with TF32 or bfloat16 products.
    """
    if device.type == "cuda":
        settings = torch.backends.cuda.matmul
    elif device.type == "cpu":
        settings = getattr(torch.backends.mkldnn, "matmul", None)
    else:
        return False
    precision = getattr(settings, "fp32_precision", None)
    if precision is None:  # before torch 2.9
        return device.type == "cuda" and bool(torch.backends.cuda.matmul.allow_tf32)
    return precision in ("tf32", "bf16")


def matmul_float32(left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
    """Multiply two matrices, or batches of matrices, in full float32. Call it outside of autocast.

    Args:
        left: float32 (..., n, k).
        right: float32 (..., k, m).
        scale: Factor of the result.

    Returns:
        float32 (..., n, m), `scale` times the product.
    """
    if rounds_float32(left.device):
        product = _split_matmul(left, right)
    elif scale != 1.0 and left.ndim == right.ndim == 3:
        return torch.baddbmm(left.new_empty(1, 1, 1), left, right, beta=0, alpha=scale)
    else:
        product = torch.matmul(left, right)
    return product if scale == 1.0 else product.mul_(scale)


def _split_matmul(left: Tensor, right: Tensor) -> Tensor:
    """The product as a sum of products of bfloat16 numbers, which neither TF32 nor bfloat16 rounds further.

    Three parts of 8 bits hold the 24 bits of float32; products of parts below 2^-24 of the whole are left out.
    """
    parts = zip(_parts(left), _parts(right), strict=True)
    (left_high, right_high), (left_middle, right_middle), (left_low, right_low) = parts
    product = torch.matmul(left_low, right_high) + torch.matmul(left_high, right_low)
    product += torch.matmul(left_middle, right_middle)
    product += torch.matmul(left_middle, right_high) + torch.matmul(left_high, right_middle)
    return product + torch.matmul(left_high, right_high)


def _parts(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    high = values.bfloat16().float()
    middle = (values - high).bfloat16().float()
    return high, middle, values - high - middle
