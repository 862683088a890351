"""Snippets of Python in the pages of the documentation, so that tests run what is printed there. Not a test."""

from __future__ import annotations

import re
from pathlib import Path

PAGES = Path(__file__).parent.parent / "docs" / "pages"


def sections(page: str, level: int) -> dict[str, str]:
    """The text under each heading of a level, by heading.

    Args:
        page: Name of the file in docs/pages.
        level: 2 for `##`, 3 for `###`.
    """
    mark = "#" * level
    parts = re.split(rf"^{mark} (.+)$", (PAGES / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def snippets(page: str, heading: str, level: int = 2) -> list[str]:
    """The Python snippets of a section, in order."""
    return re.findall(r"```python\n(.*?)```", sections(page, level)[heading], re.DOTALL)


def headings(page: str, level: int = 2) -> list[str]:
    """The headings of the sections that have snippets, in order."""
    return [heading for heading in sections(page, level) if snippets(page, heading, level)]
