"""The scripts that nbconvert's pages load from a CDN, for the tests to serve; `python -m tests.html_manager` gets them.

They come from the npm registry as two single packages, each checked against its digest: as dependencies of the front
end they would bring a hundred more into every build.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(sysconfig.get_path("data")) / "share" / "diffvis-tests"


@dataclass(frozen=True)
class Script:
    """One file of one npm package."""

    package: str
    version: str
    digest: str  # sha512 of the package, as npm tells it
    member: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.package.replace('/', '-')}-{self.version}-{Path(self.member).name}"


REQUIRE = Script(
    "requirejs",
    "2.3.8",
    "7/cTSLOdYkNBNJcDMWf+luFvMriVm7eYxp4BcFCsAX0wF421Vyce5SXP17c+Jd5otXKGNehIonFlyQXSowL6Mw==",
    "package/require.js",
)
MANAGER = Script(
    "@jupyter-widgets/html-manager",
    "1.0.15",
    "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
    "package/dist/embed-amd.js",
)


def find(script: Script) -> Path:
    """Where the script is; FileNotFoundError where it was not fetched."""
    if not script.path.is_file():
        raise FileNotFoundError(f"{script.path} is not there: run `make browser`, or `python -m tests.html_manager`")
    return script.path


def fetch(script: Script) -> None:
    """Get the package from the npm registry and keep the one file; RuntimeError if it is not what was pinned."""
    npm = Path(sysconfig.get_path("scripts")) / "npm"
    with tempfile.TemporaryDirectory() as name:
        command = [str(npm) if npm.exists() else "npm", "pack", f"{script.package}@{script.version}", "--silent"]
        subprocess.run(command, cwd=name, check=True, capture_output=True)
        (archive,) = Path(name).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != script.digest:
            raise RuntimeError(f"{script.package} {script.version} has the digest {digest}, not the pinned one")
        with tarfile.open(archive) as package:
            member = package.extractfile(script.member)
            assert member is not None
            data = member.read()
    script.path.parent.mkdir(parents=True, exist_ok=True)
    script.path.write_bytes(data)


def main() -> int:
    for script in (REQUIRE, MANAGER):
        if not script.path.is_file():
            fetch(script)
        print(f"{script.package}: {script.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
