"""The documentation names what is there: its pages, and the public objects that its reference describes."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "docs" / "pages"
NAV = (PAGES.parent / "mkdocs.yml").read_text(encoding="utf-8")
REFERENCE = sorted(
    {name for page in (PAGES / "api").glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)}
)


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", NAV))
    assert listed == {str(page.relative_to(PAGES)) for page in PAGES.rglob("*.md")}


@pytest.mark.filterwarnings("ignore:metadata:DeprecationWarning")  # bqplot's own, when it is first imported
@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_describes_what_is_there(name: str) -> None:
    assert (pkgutil.resolve_name(name).__doc__ or "").strip()


def test_the_command_line_of_the_docs_works() -> None:
    """Modules named after `python -m` can be found."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES.rglob("*.md")]
    modules = {name for text in texts for name in re.findall(r"python -m ([\w.]+)", text)}
    assert modules
    for name in modules:
        assert importlib.util.find_spec(name), name


def test_the_tour_has_ten_stops_that_are_files() -> None:
    tour = (PAGES / "tour.md").read_text(encoding="utf-8")
    stops = re.findall(r"^(\d+)\. \*\*[^*]+\*\*: `([^`]+)`", tour, re.M)
    assert [number for number, _ in stops] == [str(number) for number in range(1, 11)]
    files = [file for _, file in stops]
    assert len(set(files)) == 10
    also_named = re.findall(r"`((?:diffvis_widget|js|tests)/[\w/.]+)`", tour)
    for file in [*files, *also_named]:
        assert (PAGES.parent.parent / file).exists(), file
