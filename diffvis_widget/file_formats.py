"""Forms of a trace file besides the whole one, registered by name.

`Trace.save` stands below the packages that write other forms, and finds them here. This module loads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_writers: dict[str, Callable[[Any], bytes]] = {}


def register_writer(name: str, write: Callable[[Any], bytes]) -> None:
    """Registers a form of the trace file.

    Args:
        name: of the form.
        write: makes the bytes of the file from a trace; what it needs, it should import when called.
    """
    _writers[name] = write


def writer(name: str) -> Callable[[Any], bytes]:
    """Looks up a form of the trace file.

    Args:
        name: of the form.

    Returns:
        What makes the bytes of the file from a trace.

    Raises:
        ValueError: there is no such form.
    """
    if name not in _writers:
        raise ValueError(f"there is no form {name!r} of a trace file; there are: {', '.join(_writers) or 'none'}")
    return _writers[name]
