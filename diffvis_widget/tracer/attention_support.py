"""Whether the attention of some modules can be observed."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from diffvis_widget._compat.diffusers_attention_backends import attention_backend, is_registered, shows_attention

_HIDING_PROCESSORS = ("xformers", "npu", "xla")


def hidden_attention(modules: Mapping[str, nn.Module]) -> str | None:
    """Explain why the attention of some modules cannot be observed.

    Args:
        modules: Attention modules by dotted path.

    Returns:
        The reason and a remedy, or None where every module can be observed.
    """
    for name, module in modules.items():
        processor = getattr(module, "processor", None)
        kind = type(processor).__name__
        if any(part in kind.lower() for part in _HIDING_PROCESSORS):
            return (
                f"{name} computes attention with {kind}, which shows no attention weights; "
                "switch to the default processor (pipe.disable_xformers_memory_efficient_attention() or "
                "denoiser.set_default_attn_processor()) to trace it"
            )
        backend = attention_backend(processor)
        if not shows_attention(backend) and not is_registered(backend):
            return (
                f"{name} uses the attention backend {backend!r}, whose calls cannot be watched; call "
                'set_attention_backend("native") on the denoiser to trace it'
            )
    return None
