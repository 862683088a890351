"""One lock per denoiser: two threads in one diffusers pipeline crash, so whoever runs it holds this."""

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
    """The lock of the pipeline's denoiser, the same for all pipelines that share it. It is re-entrant."""
    return lock_of(find_family(pipe)[1])


def lock_of(denoiser: nn.Module) -> Lock:
    """The lock of a denoiser."""
    with _guard:
        return _locks.setdefault(uncompiled(denoiser), threading.RLock())


@contextlib.contextmanager
def own_work() -> Iterator[None]:
    """While in it, what this thread asks of the models is ours (a preview, a probe), not part of a traced run."""
    before = is_own_work()
    _state.own = True
    try:
        yield
    finally:
        _state.own = before


def is_own_work() -> bool:
    return getattr(_state, "own", False)
