"""One processor thread for the models of the built-in pipeline.

Every Python thread that computes with torch gets an OpenMP pool of its own. Where the pools together have more threads
than the machine has processors, GNU OpenMP puts them to sleep after each operation, and the operations of these models
are shorter than waking up.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Compute on one processor thread, in this Python thread only.

    Yields:
        Nothing.
    """
    import torch

    # a thread's first operation sets the number that the process chose by torch.set_num_threads: let it do so before
    torch.get_num_threads()
    set_mkl_threads = _mkl_threads()
    with _controller().limit(limits=1, user_api="openmp"):
        before = set_mkl_threads(1)
        try:
            yield
        finally:
            set_mkl_threads(before)


@functools.cache
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded: torch, whose models compute here, brings its own OpenMP."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@functools.cache
def _mkl_threads() -> Callable[[int], int]:
    """MKL's own number of threads in the calling Python thread: sets it, and returns the one before.

    Once a process has chosen a number by torch.set_num_threads, MKL divides its work by that number, on one thread too,
    which changes the last bits on some processors.
    """
    import torch

    for library in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*")):
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    return lambda threads: threads  # a build of torch without MKL
