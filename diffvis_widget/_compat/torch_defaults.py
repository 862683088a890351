"""Making networks in one thread while others compute with torch.

The default dtype and the default random generator are one for all threads of a process. Libraries set the first while
they load a network of half precision, and draw from the second the first weights, which the file's then replace. A run
or a meter that computes in that moment meets tensors of the wrong dtype, and a notebook that was seeded draws other
numbers than without a widget. accelerate goes further: while it makes a network without values, the parameters of every
network that is made lose theirs (``Module.register_parameter`` moves them to the device "meta").
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_inside: set[int] = set()  # threads that are in an `own_defaults` block


@contextmanager
def own_defaults() -> Iterator[None]:
    """In this block, and in this thread only, torch makes float32, draws from a generator of its own, and keeps values.

    ``torch.set_default_dtype`` does nothing in it, and no tensor loses its values by ``to("meta")``; in other threads
    both do what they always do.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    makes = {torch.empty, torch.ones, torch.zeros, torch.rand, torch.randn}
    fills = {torch.Tensor.normal_, torch.Tensor.uniform_}
    fills |= {torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_}
    draws = {torch.rand, torch.randn, *fills}
    generator = torch.Generator()

    class OwnDefaults(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = dict(kwargs or {})
            if func is torch.Tensor.to:
                place = given.get("device", *args[1:2])
                if isinstance(place, str | torch.device) and str(place) == "meta":
                    return args[0]
            if func in makes and given.get("dtype") is None:
                given["dtype"] = torch.float32
            if func in draws and given.get("generator") is None:
                filled = given.get("tensor", *args[:1]) if func in fills else None
                device = given.get("device") if filled is None else filled.device
                if torch.device(device or torch.get_default_device()) == generator.device:
                    given["generator"] = generator
            return func(*args, **given)

    with _deaf_to_default_dtype(torch), OwnDefaults():
        yield


@contextmanager
def _deaf_to_default_dtype(torch: Any) -> Iterator[None]:
    thread = threading.get_ident()
    with _lock:
        if not _inside:
            torch.set_default_dtype = _only_for_others(torch.set_default_dtype)
        _inside.add(thread)
    try:
        yield
    finally:
        with _lock:
            _inside.discard(thread)
            if not _inside:
                ours: Any = torch.set_default_dtype
                torch.set_default_dtype = ours.__wrapped__


def _only_for_others(known: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(known)
    def set_default_dtype(d: Any, /) -> None:
        if threading.get_ident() not in _inside:
            known(d)

    return set_default_dtype
