"""Replacing an attribute of a live object for a while, so that any number of watchers see its calls.

Watchers come and go in any order; the attribute is put back when the last one has gone. Those that change a call are
outside of those that only look on, whoever came first: what is seen is what is computed.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable
from typing import Any

Watcher = Callable[..., Any]
_guard = threading.RLock()


class _Interception:
    """A callable standing in for `owner.name`. Each watcher is called as watcher(original, *args, **kwargs)."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name
        self.own = name in vars(owner)
        self.original = getattr(owner, name)
        self.watchers: tuple[Watcher, ...] = ()
        self.outer: tuple[Watcher, ...] = ()
        # `inspect.signature` follows __wrapped__: diffusers asks schedulers which arguments they take
        self.__wrapped__ = self.original
        self.__name__ = name
        self.__doc__ = getattr(self.original, "__doc__", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.original
        for watcher in (*self.watchers, *self.outer):
            call = functools.partial(watcher, call)
            vars(call)["__wrapped__"] = self.original
        return call(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any) -> Any:
        """As an attribute of a class it is a method, as the original is."""
        return self if instance is None else functools.partial(self, instance)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A deep copy of the owner gets its own unwatched method: it must not act on the original."""
        copied = memo.get(id(self.owner))
        return self.original if copied is None else types.MethodType(getattr(type(self.owner), self.name), copied)


def watch(owner: Any, name: str, watcher: Watcher, outer: bool = False) -> Callable[[], None]:
    """Let `watcher(original, *args, **kwargs)` answer calls of `owner.name`. Returns the function that ends it.

    outer: it changes calls, so it is asked before all watchers that do not.
    """
    with _guard:
        present = vars(owner).get(name)
        interception = present if isinstance(present, _Interception) else _Interception(owner, name)
        if outer:
            interception.outer = (*interception.outer, watcher)
        else:
            interception.watchers = (*interception.watchers, watcher)
        if present is not interception:
            _put(owner, name, interception)

    def remove() -> None:
        with _guard:
            interception.watchers = tuple(one for one in interception.watchers if one is not watcher)
            interception.outer = tuple(one for one in interception.outer if one is not watcher)
            # somebody who replaced the attribute meanwhile keeps their replacement; ours then only passes calls on
            unused = not interception.watchers and not interception.outer
            if unused and vars(owner).get(name) is interception:
                if interception.own:
                    _put(owner, name, interception.original)
                else:
                    del vars(owner)[name]

    return remove


def _put(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, value)  # a class shows its attributes as a read-only mapping
    else:
        vars(owner)[name] = value


def unwatched(owner: Any, name: str) -> Any:
    """`owner.name` as it is without any watcher."""
    present = vars(owner).get(name)
    return present.original if isinstance(present, _Interception) else getattr(owner, name)


def is_watched(value: Any) -> bool:
    """Whether a value found in an object's attributes is one of our stand-ins."""
    return isinstance(value, _Interception)
