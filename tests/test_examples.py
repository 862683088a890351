"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import diffvis_widget as dv

PACKAGE = Path(dv.__file__).parent
PUBLIC_PACKAGES = ("explain", "export", "intervene")  # their names are used as dv.explain.df_rise, ...


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def has_example(path: Path) -> bool:
    """Whether a docstring of the file holds an example; found without importing it."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(">>> " in (ast.get_docstring(node) or "") for node in ast.walk(tree) if isinstance(node, documented))


MODULES = [module_name(path) for path in sorted(PACKAGE.rglob("*.py")) if has_example(path)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a file
    module = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    results = doctest.testmod(module, extraglobs={"dv": dv}, optionflags=options)
    assert results.attempted > 0, f"{name} has an example that doctest does not see"
    assert results.failed == 0, f"{results.failed} of {results.attempted} lines of the examples in {name} fail"


def public_callables() -> dict[str, Any]:
    """Classes and functions of the public API by the name that users write."""
    names = {f"dv.{name}": getattr(dv, name) for name in dv.__all__}
    for package in PUBLIC_PACKAGES:
        module = getattr(dv, package)
        names |= {f"dv.{package}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in names.items() if inspect.isclass(value) or inspect.isfunction(value)}


@pytest.mark.parametrize("name", public_callables())
def test_public_names_have_an_example(name: str) -> None:
    value = public_callables()[name]
    if inspect.isclass(value) and (issubclass(value, BaseException) or hasattr(value, "__required_keys__")):
        return  # an error, or the keywords of a function that has an example
    text = inspect.getdoc(value) or ""
    assert ">>> " in text, f"the docstring of {name} has no example"
