"""The time that the tracer itself takes, where that is too little to be seen in the difference of two runs.

The clock runs while code of the tracer runs: in its hooks on modules, and in its watchers of functions, less the time
that the watched function takes. What it costs the model besides, a cache that went cold, only the difference shows.
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
def own_time() -> Iterator[Callable[[], float]]:
    """Gives a function that says how many seconds of the clock the tracers entered inside have taken so far.

    Not for joint attention: its normaliser comes from the kernel that the watched function would have called.
    """
    spent = 0.0
    interception: Any = hooks.__dict__["_Interception"]
    kept = interception.__call__, nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook

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
        for watcher in (*self.watchers, *self.outer):
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
    nn.Module.register_forward_pre_hook = timing(kept[1])  # type: ignore[method-assign]
    nn.Module.register_forward_hook = timing(kept[2])  # type: ignore[method-assign]
    try:
        yield lambda: spent
    finally:
        interception.__call__, nn.Module.register_forward_pre_hook, nn.Module.register_forward_hook = kept
