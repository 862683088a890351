"""Import large packages without collecting garbage in between.

Importing torch, transformers and diffusers makes about a million objects, all of which stay. CPython's cyclic
collector runs after every few hundred of them and walks them again and again, a fifth of the import's time
(https://docs.python.org/3/library/gc.html#gc.set_threshold).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()  # the collector belongs to the whole process
_blocks = 0
_was_enabled = False


@contextmanager
def collection_paused() -> Iterator[None]:
    """Switch the cyclic garbage collector off in this block, and on again if it was on.

    Blocks may nest, and overlap in several threads: the last one that ends restores the collector. Objects without
    cycles are freed as ever.

    Yields:
        Nothing.
    """
    global _blocks, _was_enabled
    with _lock:
        if not _blocks:
            _was_enabled = gc.isenabled()
            gc.disable()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks and _was_enabled:
                gc.enable()
