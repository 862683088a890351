"""The rooms of the package import in one direction only, and nothing that is not declared."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "diffvis_widget"

# From the ground up: a room may import itself and the rooms before it.
ROOMS = [
    *("_compat", "schedule", "shipped", "traces", "wire", "tracer", "concepts"),
    *("scenes", "explain", "intervene", "export", "loading", "front_end", "widget", "cli"),
]
# A generation as data, two of them side by side, and the timestep schedules are for any program: they need very little.
LIGHT = {"traces": {"numpy", "safetensors", "PIL"}, "schedule": {"numpy"}}
HEAVY = ["torch", "torchvision", "diffusers", "transformers", "open_clip", "pandas", "bqplot", "anywidget", "numpy"]

FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import in the file, those inside functions too."""
    package = ["diffvis_widget", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import room` names the room in the alias
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after the statement."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_file_belongs_to_a_known_room(path: Path) -> None:
    assert room(path) in {"__init__", *ROOMS}, f"{path.name} is in no room: give it one, and a place in the order"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) != "__init__"], ids=lambda path: path.stem)
def test_a_room_imports_only_rooms_before_it(path: Path) -> None:
    allowed = ROOMS[: ROOMS.index(room(path)) + 1]
    for line, name in imports(path):
        first, *rest = name.split(".")
        if first != "diffvis_widget":
            continue
        # the package itself leads to everything, so only the outermost room may take names from it
        assert (rest and rest[0] in allowed) or room(path) == "cli", f"{path}:{line} imports {name}"


@pytest.mark.parametrize("light", LIGHT)
def test_light_rooms_import_little(light: str) -> None:
    for path in FILES:
        if room(path) == light:
            for line, name in imports(path):
                first = name.split(".")[0]
                standard = first in sys.stdlib_module_names or first == "diffvis_widget"
                assert standard or first in LIGHT[light], f"{path}:{line} imports {name}"


@pytest.mark.parametrize("light", LIGHT)
def test_light_rooms_load_no_torch(light: str) -> None:
    assert not loaded_after(f"import diffvis_widget.{light}") & {"torch", "diffusers", "transformers", "anywidget"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_after("import diffvis_widget")
    assert "diffvis_widget" in loaded
    assert not loaded & set(HEAVY)


OPTIONAL = ("explain", "film")  # extras of which the package imports something where it is there


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for name in OPTIONAL for one in project["optional-dependencies"][name])]
    declared = {canonicalize_name(Requirement(text).name) for text in wanted}
    providers = importlib.metadata.packages_distributions()
    for path in FILES:
        for line, name in imports(path):
            first = name.split(".")[0]
            if first in sys.stdlib_module_names or first == "diffvis_widget":
                continue
            known = {canonicalize_name(provider) for provider in providers.get(first, [])}
            assert known & declared, f"{path}:{line} imports {name}, which is no dependency in pyproject.toml"
