"""Names the attention backend that diffusers will use for a processor, and finds the functions of all backends.

diffusers has no public query for it: a processor keeps its own choice in `_attention_backend`, and the process-wide one
is in `_AttentionBackendRegistry` (https://huggingface.co/docs/diffusers/optimization/attention_backends; that
`set_attention_backend` on one model also changes all others: https://github.com/huggingface/diffusers/issues/14249).
`dispatch_attention_fn` takes the function of a backend from `_AttentionBackendRegistry._backends` at each call. Without
these names every processor counts as "native". A trace then still fails loudly if no attention call is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_DISPATCH = "diffusers.models.attention_dispatch"
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


def backend_functions() -> dict[Any, Callable[..., Any]]:
    """The registry of diffusers: the functions of its backends, by name.

    Returns:
        The registry itself, so that its entries can be watched; empty where diffusers keeps it elsewhere.
    """
    try:
        from diffusers.models.attention_dispatch import _AttentionBackendRegistry

        return _AttentionBackendRegistry._backends
    except (ImportError, AttributeError):
        return {}


def backends_beside_torch() -> list[Any]:
    """The backends that do not end in torch's own attention function, or may not.

    Returns:
        Their keys in `backend_functions`. A function that a user registered under a native name is among them.
    """
    return [
        key
        for key, function in backend_functions().items()
        if not (
            shows_attention(str(getattr(key, "value", key)))
            and getattr(getattr(function, "__wrapped__", function), "__module__", None) == _DISPATCH
        )
    ]


def is_registered(backend: str) -> bool:
    """Whether the function of a backend is known, so that its calls can be watched.

    Args:
        backend: A name, as of `attention_backend`.

    Returns:
        True for every backend in diffusers' registry.
    """
    return backend in {str(getattr(key, "value", key)) for key in backend_functions()}


def _process_wide_backend() -> Any:
    try:
        from diffusers.models.attention_dispatch import _AttentionBackendRegistry

        return _AttentionBackendRegistry.get_active_backend()[0]
    except (ImportError, AttributeError):
        return NATIVE
