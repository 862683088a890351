"""`import diffvis_widget as dv`: quick, complete, and honest about what is not there."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diffvis_widget as dv


@pytest.mark.parametrize("name", dv.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(dv, name) is not None
    assert name in dir(dv)


def test_editors_see_the_names_that_python_gives() -> None:
    """What pyright reads under TYPE_CHECKING is what __getattr__ loads, from the same place."""
    source = ast.parse(Path(dv.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in source.body if isinstance(node, ast.If)]
    declared = {
        alias.name: (node.module or "").removeprefix("diffvis_widget").removeprefix(".")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name: home for name, home in declared.items() if home} == dv._HOMES
    assert {name for name, home in declared.items() if not home} == set(dv._ROOMS)
    assert sorted(declared) == sorted(dv.__all__)
    assert (Path(dv.__file__).parent / "py.typed").is_file()


def test_a_name_that_is_not_there_says_which_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Trcae'; it has .*Tracer"):
        _ = dv.Trcae  # pyright: ignore[reportAttributeAccessIssue]


def test_the_import_takes_less_than_a_third_of_a_second() -> None:
    code = "import time; a = time.process_time(); import diffvis_widget; print(time.process_time() - a)"
    spent = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    assert spent < 0.3
