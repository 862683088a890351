"""Fixtures of the widget's tests, for results that a widget shows."""

from __future__ import annotations

from tests.widget.conftest import make

__all__ = ["make"]
