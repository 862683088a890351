"""The error of files that cannot be read."""

from __future__ import annotations


class TraceFileError(ValueError):
    """A file is no trace, is damaged, contradicts itself or has a newer format.

    Example:
        >>> issubclass(TraceFileError, ValueError)
        True
    """
