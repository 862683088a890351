"""One processor thread for the built-in models in the widget's own threads.

Every thread of the interpreter that computes with torch gets an OpenMP pool of its own. Where the pools together have
more threads than the machine has processors, GNU's OpenMP puts them to sleep after each operation, and operations of
these models are shorter than waking: on two processors a run takes 1.5 s on one thread and 3.3 s on two.
Other models stay as they are: with another number of threads the last bits of some operations differ. Those of the
scenes model's denoiser do not; its decoder's would.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one processor thread, in this thread of the interpreter only."""
    with _controller().limit(limits=1, user_api="openmp"):
        yield


@contextlib.contextmanager
def calm(pipe: Any) -> Iterator[None]:
    """Let the denoiser of the built-in model compute on one processor thread, and nothing else of its pipeline.

    pipe: any; others than the built-in one are left alone. Holds for calls in this thread of the interpreter.
    """
    from diffvis_widget import scenes

    if not scenes.is_scenes(pipe):
        yield
        return
    calls = contextlib.ExitStack()
    thread = threading.get_ident()

    def entering(*_: Any) -> None:
        if threading.get_ident() == thread:
            calls.enter_context(one_thread())

    def leaving(*_: Any) -> None:
        if threading.get_ident() == thread:
            calls.close()

    hooks = [
        pipe.unet.register_forward_pre_hook(entering),
        pipe.unet.register_forward_hook(leaving, always_call=True),
    ]
    try:
        yield
    finally:
        calls.close()
        for hook in hooks:
            hook.remove()


@functools.cache
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded: torch, whose models compute here, has brought its own."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
