"""One lock per denoiser, held by whatever runs it: two threads in one diffusers pipeline crash."""

from __future__ import annotations

import contextlib
import threading
import weakref
from _thread import RLock as Lock  # what threading.RLock makes
from collections.abc import Iterator
from typing import Any

from torch import nn

from diffvis_widget._compat.torch_compile import uncompiled
from diffvis_widget.tracer.families import find_family

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


def lock_of(denoiser: nn.Module) -> Lock:
    """Return the lock of a denoiser.

    Args:
        denoiser: The denoiser, compiled or not.

    Returns:
        A re-entrant lock.
    """
    with _guard:
        return _locks.setdefault(uncompiled(denoiser), threading.RLock())


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
