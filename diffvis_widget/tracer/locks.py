"""One lock per denoiser, held by whatever runs it: two threads in one diffusers pipeline crash.

The VAE of the built-in model has a lock of its own, so that images are decoded while the denoiser computes the next
step. The VAEs of other models share the lock of their denoiser: accelerate may move one of the two from the device when
the other is called, and in half precision decoding changes the VAE's dtype for a moment.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from _thread import RLock as Lock  # what threading.RLock makes
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from diffvis_widget._compat.torch_compile import uncompiled
from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.tracer.families import find_family

from .hooks import watch

_locks: weakref.WeakKeyDictionary[nn.Module, Lock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()
_state = threading.local()


def denoiser_lock(pipe: Any) -> Lock:
    """Return the lock of a pipeline's denoiser.

    Args:
        pipe: A pipeline.

    Returns:
        A re-entrant lock, the same for all pipelines that share the denoiser.
    """
    return lock_of(find_family(pipe)[1])


def decodes_beside_denoiser(pipe: Any) -> bool:
    """Whether another thread may decode while the denoiser runs.

    Args:
        pipe: A pipeline.

    Returns:
        True for the built-in model, unless accelerate moves its parts between devices.
    """
    return has_scenes_mark(pipe) and not any(
        hasattr(part, "_hf_hook") for part in pipe.components.values() if isinstance(part, nn.Module)
    )


def decoder_lock(pipe: Any) -> Lock:
    """Return the lock that a thread holds while it decodes by a pipeline's VAE.

    Args:
        pipe: A pipeline.

    Returns:
        A re-entrant lock: the VAE's own where it may work beside the denoiser, else the denoiser's.
    """
    return lock_of(pipe.vae) if decodes_beside_denoiser(pipe) else denoiser_lock(pipe)


def lock_of(network: nn.Module) -> Lock:
    """Return the lock of a denoiser or a VAE.

    Args:
        network: The network, compiled or not.

    Returns:
        A re-entrant lock.
    """
    with _guard:
        return _locks.setdefault(uncompiled(network), threading.RLock())


@contextlib.contextmanager
def locked_decodes(pipe: Any) -> Iterator[None]:
    """Let the decodes of a pipeline's calls hold its `decoder_lock`, where the VAE has one of its own.

    Args:
        pipe: A pipeline.

    Yields:
        None.
    """
    if not decodes_beside_denoiser(pipe):
        yield
        return
    lock = decoder_lock(pipe)

    def decode(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with lock:
            return original(*args, **kwargs)

    remove = watch(pipe.vae, "decode", decode, modifies=True)
    try:
        yield
    finally:
        remove()


@contextlib.contextmanager
def own_work() -> Iterator[None]:
    """Mark this thread's calls of models as diffvis_widget's own (a preview, a probe), which no tracer records.

    Yields:
        None.
    """
    before = is_own_work()
    _state.is_own_work = True
    try:
        yield
    finally:
        _state.is_own_work = before


def is_own_work() -> bool:
    """Whether this thread is inside `own_work`.

    Returns:
        True inside.
    """
    return getattr(_state, "is_own_work", False)
