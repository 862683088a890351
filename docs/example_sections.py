"""Lets the reference show `Example:` sections as code, which griffe knows by the name `Examples:` only."""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Renames the sections of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **arguments: Any) -> None:
        """Rename the section of one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
