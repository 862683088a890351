"""Whether the processor computes in bfloat16 at speed.

torch has no public name for it: ``torch.cpu`` reports AVX-512 and AMX, not how oneDNN uses them
(https://docs.pytorch.org/docs/stable/cpu.html). Where the private operator is missing, the answer is no, which costs
speed only.
"""

from __future__ import annotations


def supports_bfloat16() -> bool:
    """Ask oneDNN whether it multiplies in bfloat16 on this processor.

    Returns:
        True if it does; False if it does not or if torch does not tell.
    """
    import torch

    try:
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
