"""What the linters cannot express of the order of packages, their size and their names.

import-linter (``lint-imports``, in ``make test``) checks that packages import downwards and in no circle.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
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
FILES = sorted(PACKAGE.rglob("*.py"))

# A trace as data, its messages and the timestep schedules are for any program: they need very little.
LIGHT = {
    "traces": {"numpy", "safetensors", "PIL"},
    "wire": {"numpy", "PIL"},
    "schedule": {"numpy"},
}
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "open_clip", "pandas", "bqplot", "anywidget", "numpy"}
HEAVY |= {"pyarrow", "ray"}
# extras of which the package imports something where it is there
OPTIONAL = ("explain", "film", "graphs", "ray", "studies")

LONGEST = 400
LONGER: dict[str, str] = {}  # file: the reason why it may be longer


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import in the file, those inside functions too."""
    package = ["diffvis_widget", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def top_level(path: Path) -> str:
    """The package or module directly below diffvis_widget that the file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def loaded_after(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after the statement."""
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("light", LIGHT)
def test_light_packages_import_little(light: str) -> None:
    for path in FILES:
        if top_level(path) == light:
            for line, name in imports(path):
                first = name.split(".")[0]
                standard = first in sys.stdlib_module_names or first == "diffvis_widget"
                assert standard or first in LIGHT[light], f"{path}:{line} imports {name}"


@pytest.mark.parametrize("light", LIGHT)
def test_light_packages_load_no_torch(light: str) -> None:
    assert not loaded_after(f"import diffvis_widget.{light}") & {"torch", "diffusers", "transformers", "anywidget"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = loaded_after("import diffvis_widget")
    assert "diffvis_widget" in loaded
    assert not loaded & HEAVY


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for name in OPTIONAL for requirement in project["optional-dependencies"][name]]
    declared = {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]}
    distributions = importlib.metadata.packages_distributions()
    for path in FILES:
        for line, name in imports(path):
            first = name.split(".")[0]
            if first in sys.stdlib_module_names or first == "diffvis_widget":
                continue
            providers = {canonicalize_name(provider) for provider in distributions.get(first, [])}
            assert providers & declared, f"{path}:{line} imports {name}, which is no dependency in pyproject.toml"


def called(node: ast.Call) -> str:
    """The last part of the name of the function that is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_of_the_package_is_imported_by_a_string(path: Path) -> None:
    """Such an import goes around the order that the linter checks; only the outermost `__init__` may resolve names."""
    if path == PACKAGE / "__init__.py":
        return
    texts = {
        value.value
        for value in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and called(node) in {"import_module", "__import__", "resolve_name"}:
            dotted = [text for text in texts if re.fullmatch(r"diffvis_widget\.[\w.]+", text)]
            assert not dotted, f"{path}:{node.lineno} imports by name, and the file names {dotted}"
            for argument in node.args:
                relative = isinstance(argument, ast.Constant) and str(argument.value).startswith(".")
                assert not relative, f"{path}:{node.lineno} imports {ast.unparse(argument)}"
                assert not isinstance(argument, ast.JoinedStr), f"{path}:{node.lineno} imports {ast.unparse(argument)}"


@pytest.mark.parametrize("folder", ["diffvis_widget", "js/src"])
def test_files_are_short(folder: str) -> None:
    suffixes = {".py", ".ts", ".tsx", ".css"}
    paths = [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes and "static" not in path.parts]
    assert paths
    for path in paths:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        name = path.relative_to(ROOT).as_posix()
        assert lines <= LONGEST or name in LONGER, f"{name} has {lines} lines: divide it, or give the reason in LONGER"


def test_the_widget_package_is_small() -> None:
    assert len(list((PACKAGE / "widget").glob("*.py"))) <= 10


def test_interventions_use_the_calls_and_the_public_names_of_the_tracer() -> None:
    from diffvis_widget import tracer

    allowed = {"pipeline_calls", "attention_calls", "attention_support", *tracer.__all__}
    for path in FILES:
        if top_level(path) == "intervene":
            for line, name in imports(path):
                if name.startswith("diffvis_widget.tracer."):
                    assert name.split(".")[2] in allowed, f"{path}:{line} imports {name}"


PRIVATE = re.compile(
    r"\b(?:torch|aten|F|functional|diffusers|transformers)\.(?:\w+\.)*_[a-z]\w*|\b_AttentionBackend\w*|\bpipe\._[a-z]\w*"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_of_other_libraries_stay_in_compat(path: Path) -> None:
    if top_level(path) == "_compat":
        return
    code = ast.unparse(without_docstrings(ast.parse(path.read_text(encoding="utf-8"))))
    private = PRIVATE.findall(code)
    assert not private, f"{path} uses {private}: put them behind a module of _compat, with a fallback"


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree with every text that stands alone as a statement emptied."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return tree


@pytest.mark.parametrize("path", sorted((PACKAGE / "_compat").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_each_workaround_links_to_what_it_works_around(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert "https://" in text, f"{path} has no link in its docstring"


# Names that say nothing about what they hold, in Python and TypeScript.
VAGUE = {"one", "found", "told", "said", "asked", "given", "known", "own", "kept"}


def assigned_names(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every variable and parameter in a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_variables_have_names_that_say_something() -> None:
    paths = [
        path for folder in ("diffvis_widget", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")
    ]
    vague = [f"{path}:{line} {name}" for path in paths for line, name in assigned_names(path) if name in VAGUE]
    assert vague == []
    declaration = re.compile(r"\b(?:const|let)\s+one\b|\(one\b[^)]*\)\s*=>|\bone\s*=>")
    scripts = [path for folder in ("src", "tests", "dev") for path in (ROOT / "js" / folder).rglob("*.ts*")]
    assert scripts
    for path in scripts:
        match = declaration.search(path.read_text(encoding="utf-8"))
        assert match is None, f"{path} calls a variable 'one': {match[0] if match else ''}"
