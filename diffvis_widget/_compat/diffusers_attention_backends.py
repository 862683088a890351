"""Names the attention backend that diffusers will use for a processor.

diffusers has no public query for it: a processor keeps its own choice in `_attention_backend`, and the process-wide one
is in `_AttentionBackendRegistry` (https://huggingface.co/docs/diffusers/optimization/attention_backends; that
`set_attention_backend` on one model also changes all others: https://github.com/huggingface/diffusers/issues/14249).
Without these names every processor counts as "native". A trace then still fails loudly if no attention call is seen.
"""

from __future__ import annotations

from typing import Any

NATIVE = "native"


def attention_backend(processor: Any) -> str:
    """Name the attention backend of a processor.

    Args:
        processor: An attention processor of diffusers, or None.

    Returns:
        The name, such as "native", "_native_math" or "flex"; "native" for a processor that calls torch itself.
    """
    if not hasattr(processor, "_attention_backend"):
        return NATIVE
    backend = processor._attention_backend or _process_wide_backend()
    return str(getattr(backend, "value", backend))


def shows_attention(backend: str) -> bool:
    """Whether a backend ends in torch's own attention function.

    Args:
        backend: A name, as of `attention_backend`.

    Returns:
        True for "native", and for those of its variants that are not another library's.
    """
    return NATIVE in backend and not backend.endswith(("_npu", "_xla"))


def _process_wide_backend() -> Any:
    try:
        from diffusers.models.attention_dispatch import _AttentionBackendRegistry

        return _AttentionBackendRegistry.get_active_backend()[0]
    except (ImportError, AttributeError):
        return NATIVE
