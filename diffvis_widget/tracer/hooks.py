"""Hooks on attributes of live objects, and on values of dictionaries: watchers intercept the calls of a function.

Any number of watchers are added and removed in any order; the original returns with the removal of the last one. Hooks
that modify a call run before hooks that only observe it, regardless of registration order.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable
from typing import Any

from .fault_guard import FaultGuard

Watcher = Callable[..., Any]
"""(original, *args, **kwargs) -> result of the call."""

_lock = threading.RLock()


class _Interception:
    """Callable in the place of `owner.name`, which passes each call through all watchers.

    Args:
        owner: Object or class whose attribute is replaced, or dictionary whose value is.
        name: Name of the attribute, or key.
    """

    def __init__(self, owner: Any, name: Any) -> None:
        self.owner = owner
        self.name = name
        self.in_owner = name in _values(owner)  # otherwise inherited: removal deletes the attribute
        self.original = owner[name] if isinstance(owner, dict) else getattr(owner, name)
        self.observers: tuple[Watcher, ...] = ()
        self.modifiers: tuple[Watcher, ...] = ()
        # `inspect.signature` follows __wrapped__: diffusers inspects the arguments of schedulers
        self.__wrapped__ = self.original
        self.__name__ = str(name)
        self.__doc__ = getattr(self.original, "__doc__", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.original
        for watcher in (*self.observers, *self.modifiers):
            call = functools.partial(watcher, call)
            vars(call)["__wrapped__"] = self.original
        return call(*args, **kwargs)

    def __get__(self, instance: Any, owner: Any) -> Any:
        # an attribute of a class is a method, as the original is
        return self if instance is None else functools.partial(self, instance)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # a copy of the owner gets its own method without watchers, bound to the copy
        copied = memo.get(id(self.owner))
        return self.original if copied is None else types.MethodType(getattr(type(self.owner), self.name), copied)

    def __reduce__(self) -> tuple[Any, ...]:
        # pickles have the method without watchers
        return (_same, (self.original,)) if self.in_owner else (getattr, (self.owner, self.name))


def _same(value: Any) -> Any:
    return value


def watch(
    owner: Any, name: Any, watcher: Watcher, modifies: bool = False, guard: FaultGuard | None = None
) -> Callable[[], None]:
    """Intercept the calls of `owner.name`.

    Args:
        owner: Object, module or class that has the attribute, or a dictionary.
        name: Name of a callable attribute, or key of a callable value.
        watcher: Called in its place as `watcher(original, *args, **kwargs)`; returns the result of the call.
        modifies: Whether the watcher modifies calls. It then runs before all watchers that only observe.
        guard: Takes the watcher's errors; None: they end the call.

    Returns:
        A function that removes the watcher.
    """
    watcher = watcher if guard is None else guard.watcher(watcher)
    with _lock:
        present = _values(owner).get(name)
        interception = present if isinstance(present, _Interception) else _Interception(owner, name)
        if modifies:
            interception.modifiers = (*interception.modifiers, watcher)
        else:
            interception.observers = (*interception.observers, watcher)
        if present is not interception:
            _put(owner, name, interception)

    def remove() -> None:
        with _lock:
            interception.observers = tuple(other for other in interception.observers if other is not watcher)
            interception.modifiers = tuple(other for other in interception.modifiers if other is not watcher)
            # an attribute that other code replaced meanwhile stays; the interception then only forwards calls
            unused = not interception.observers and not interception.modifiers
            if unused and _values(owner).get(name) is interception:
                if interception.in_owner:
                    _put(owner, name, interception.original)
                elif isinstance(owner, type):
                    delattr(owner, name)  # vars() of a class is read-only
                else:
                    del vars(owner)[name]

    return remove


def _values(owner: Any) -> Any:
    return owner if isinstance(owner, dict) else vars(owner)


def _put(owner: Any, name: Any, value: Any) -> None:
    if isinstance(owner, type):
        setattr(owner, name, value)  # vars() of a class is read-only
    else:
        _values(owner)[name] = value


def unwatched(owner: Any, name: str) -> Any:
    """Get an attribute as it is without any watcher.

    Args:
        owner: Object, module or class that has the attribute.
        name: Name of the attribute.

    Returns:
        The original value of `owner.name`.
    """
    present = vars(owner).get(name)
    return present.original if isinstance(present, _Interception) else getattr(owner, name)


def is_watched(value: Any) -> bool:
    """Whether a value in an object's attributes intercepts calls for watchers.

    Args:
        value: Value of an attribute.

    Returns:
        True if `watch` put it there.
    """
    return isinstance(value, _Interception)
