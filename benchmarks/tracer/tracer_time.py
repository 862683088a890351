"""The time that the tracer's own code takes, where it is too short to appear in the difference of two runs.

The clock runs while code of the tracer runs: in its hooks on modules, and in its watchers of functions, without the
time of the watched function. Indirect costs for the model, such as a cold cache, appear only in the difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from benchmarks.tracer.timing import clock
from diffvis_widget.tracer import hooks

Call = Callable[..., Any]


@contextmanager
def measure_tracer_time() -> Iterator[Callable[[], float]]:
    """Yields a function that returns the seconds spent so far in the tracers entered inside.

    It is not for joint attention, whose normaliser comes from the kernel that the watched function would have called.
    """
    spent = 0.0
    interception: Any = hooks.__dict__["_Interception"]
    originals = interception.__call__, nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook

    def watching(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        away = 0.0

        def original(*args: Any, **kwargs: Any) -> Any:
            nonlocal away
            left = clock()
            try:
                return self.original(*args, **kwargs)
            finally:
                away += clock() - left

        functools.update_wrapper(original, self.original)
        call: Call = original
        for watcher in (*self.observers, *self.modifiers):
            call = functools.partial(watcher, call)
            vars(call)["__wrapped__"] = self.original
        began = clock()
        try:
            return call(*args, **kwargs)
        finally:
            spent += clock() - began - away

    def timing(register: Call) -> Call:
        def registering(self: nn.Module, hook: Call, **options: Any) -> Any:
            @functools.wraps(hook)
            def hooked(*args: Any) -> Any:
                nonlocal spent
                began = clock()
                try:
                    return hook(*args)
                finally:
                    spent += clock() - began

            ours = (hook.__module__ or "").startswith("diffvis_widget")
            return register(self, hooked if ours else hook, **options)

        return registering

    interception.__call__ = watching
    nn.Module.register_forward_pre_hook = timing(originals[1])  # type: ignore[method-assign]
    nn.Module.register_forward_hook = timing(originals[2])  # type: ignore[method-assign]
    try:
        yield lambda: spent
    finally:
        interception.__call__, nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook = originals
