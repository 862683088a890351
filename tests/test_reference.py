"""The reference shows a parameter table for every public function, method and class that takes parameters.

griffe reads the docstrings here exactly as the documentation's build does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest

ROOT = Path(__file__).parent.parent
MODULES = ("", "explain", "intervene", "export")
EXTRA = ("widget.charts.concept_chart", "widget.charts.attention_chart", "widget.charts.decision_chart")
SHOWN = [
    name
    for page in (ROOT / "docs" / "pages" / "api").glob("*.md")
    for name in re.findall(r"^::: diffvis_widget\.(\S+)$", page.read_text(encoding="utf-8"), re.M)
]

Object = griffe.Object | griffe.Alias


@functools.cache
def package() -> griffe.Module:
    loaded = griffe.load("diffvis_widget", search_paths=[ROOT], docstring_parser="google", resolve_aliases=True)
    assert isinstance(loaded, griffe.Module)
    return loaded


def public_names() -> Iterator[str]:
    """Every public function and class: `trace`, `explain.df_rise`, ..."""
    for module in MODULES:
        home = package()[module] if module else package()
        for export in home.exports or ():
            name = ".".join(filter(None, [module, str(export)]))
            if package()[name].kind in (griffe.Kind.FUNCTION, griffe.Kind.CLASS):
                yield name
    yield from EXTRA


def documented(value: Object, *kinds: griffe.DocstringSectionKind) -> set[str]:
    """The names in the docstring's sections of these kinds."""
    sections = value.docstring.parsed if value.docstring else []
    return {item.name.lstrip("*") for section in sections if section.kind in kinds for item in section.value}


def undocumented(value: Object) -> Iterator[str]:
    """The parameters that no table would show: those of the function, or of the class and its public methods."""
    arguments = documented(value, griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.other_parameters)
    if value.is_class:
        arguments |= documented(value, griffe.DocstringSectionKind.attributes)
        for name, member in value.members.items():
            if member.is_function and not name.startswith("_"):
                yield from (f"{name}({parameter})" for parameter in undocumented(member))
    assert isinstance(value, griffe.Function | griffe.Class | griffe.Alias)
    for parameter in value.parameters:
        name = parameter.name.lstrip("*")
        if name not in {"self", "cls", *arguments} and not name.startswith("_"):
            yield name


@pytest.mark.parametrize("name", sorted({*public_names()}))
def test_every_parameter_is_documented(name: str) -> None:
    value = package()[name]
    assert value.docstring, f"{name} has no docstring"
    assert not [*undocumented(value)], f"{value.path} documents no parameter of these names"


def test_the_reference_shows_every_public_name_once() -> None:
    shown = [package()[name].canonical_path for name in SHOWN]
    assert len(shown) == len(set(shown)), "a name is shown twice"
    missing = {name for name in public_names() if package()[name].canonical_path not in shown}
    assert not missing, f"docs/pages/api shows nothing of {', '.join(sorted(missing))}"


def test_a_parameter_without_a_description_is_found() -> None:
    code = '''
class Meter:
    """Scores images.

    Args:
        model: Name of the model.
    """

    def __init__(self, model, device): ...

    def score(self, image, *, scale=1.0):
        """Score an image.

        Args:
            image: uint8 (H, W, 3).
        """
'''
    with griffe.temporary_visited_module(code, docstring_parser="google") as module:
        assert [*undocumented(module["Meter"])] == ["score(scale)", "device"]
