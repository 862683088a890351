"""The exception that ends a computation whose result is no longer needed."""

from __future__ import annotations


class Cancelled(Exception):
    """Raised inside a computation to end it: a run, an explanation, or a job of the page was cancelled."""
