"""One processor thread for the models of the built-in pipeline.

Every Python thread that computes with torch gets an OpenMP pool of its own. Where the pools together have more threads
than the machine has processors, GNU OpenMP puts them to sleep after each operation, and the operations of these models
are shorter than waking up.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
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
    with _controller().limit(limits=1, user_api="openmp"):
        yield


@functools.cache
def _controller() -> ThreadpoolController:
    """Of the libraries that are loaded: torch, whose models compute here, brings its own OpenMP."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
