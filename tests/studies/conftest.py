"""What the tests of studies share."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import bqplot  # noqa: F401 - its own classes use a retired form of traitlets, once, when they are first imported
