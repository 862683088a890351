"""Fixtures of the widget's tests, for messages that a real run sends."""

from __future__ import annotations

from tests.widget.conftest import gate, make, pipe, shared_pipe

__all__ = ["gate", "make", "pipe", "shared_pipe"]
