"""One processor thread for the built-in models in the widget's own threads.

Every Python thread that computes with torch gets an OpenMP pool of its own. Where the pools together have more threads
than the machine has processors, GNU OpenMP puts them to sleep after each operation, and the operations of these models
are shorter than waking up: on two processors a run takes 1.5 s on one thread and 3.3 s on two.
Other models are left alone: with another number of threads the last bits of some operations differ. The denoiser of the
scenes model has no such operation; its decoder has. So the pipeline's own decode keeps its threads, and
`diffvis_widget.tracer.decode` decodes on one thread, one image after the other, wherever it is called: of its images,
one pixel in 10,000 may differ from those of the pipeline by one level.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from diffvis_widget.processor_threads import single_threaded


@contextlib.contextmanager
def single_threaded_denoiser(pipe: Any) -> Iterator[None]:
    """Compute the denoiser of the built-in model, and nothing else of its pipeline, on one processor thread.

    It holds for calls in this Python thread.

    Args:
        pipe: a pipeline; every model but the built-in one is left alone.

    Yields:
        Nothing.
    """
    from diffvis_widget import scenes

    if not scenes.is_scenes(pipe):
        yield
        return
    calls = contextlib.ExitStack()
    thread = threading.get_ident()

    def enter(*_: Any) -> None:
        if threading.get_ident() == thread:
            calls.enter_context(single_threaded())

    def leave(*_: Any) -> None:
        if threading.get_ident() == thread:
            calls.close()

    hooks = [
        pipe.unet.register_forward_pre_hook(enter),
        pipe.unet.register_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        calls.close()
        for hook in hooks:
            hook.remove()
