"""The description of a study in its folder: what it runs and measures, so that it can be resumed."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffvis_widget.traces.file.whole_file import write_bytes_whole

from .columns import BASE, Kind
from .conditions import plain_settings, restore
from .measures import Measure, check_measures
from .parts import FOLDER as PARTS
from .plan import Plan, digest
from .prompts import PromptRow
from .settings_text import settings_text

NAME, PROMPTS, TRACES = "study.json", "prompts.jsonl", "traces"
_FORMAT, _VERSION = "diffvis-study", 1
_NAMES = {
    "fingerprint": "model",
    "prompts": "prompts",
    "seeds": "seeds",
    "conditions": "conditions",
    "arguments": "pipeline arguments",
    "measures": "measures",
    "keep_traces": "keep_traces",
    "threads": "threads",
    "batch": "batch",
}
_LATER = {"batch": 1}  # settings that older studies do not name, and what they had


@dataclass(frozen=True)
class Manifest:
    """What a study is, as its folder stores it.

    Attributes:
        settings: All that decides what its rows hold, as plain values.
        columns: Kinds of all columns.
        about: More to know: the name of the model, versions, the command.
    """

    settings: Mapping[str, Any]
    columns: Mapping[str, Kind]
    about: Mapping[str, Any]

    @property
    def study(self) -> str:
        """Digest of the settings, which every part carries."""
        return digest(self.settings)

    def write(self, folder: Path) -> None:
        """Write it to the folder of its study.

        Args:
            folder: The folder.

        Raises:
            OSError: It cannot be written.
        """
        entry = {"format": _FORMAT, "version": _VERSION, "settings": self.settings}
        entry |= {"columns": self.columns, "about": self.about}
        write_bytes_whole(folder / NAME, json.dumps(entry, indent=1, ensure_ascii=False).encode())

    def check_same(self, other: Manifest, folder: Path) -> None:
        """Check that another description is of the same study.

        Args:
            other: What should be run now.
            folder: The folder, for the error.

        Raises:
            ValueError: They differ; the message names what.
        """
        for name, label in _NAMES.items():
            stored, new = (settings.get(name, _LATER.get(name)) for settings in (self.settings, other.settings))
            if stored != new:
                there, now = (_change_text(name, value) for value in (stored, new))
                change = "" if name == "prompts" or there == now else f" ({there} there, {now} now)"
                raise ValueError(
                    f"out: {folder} holds a study with other {label}{change}. Nothing was changed; name another folder "
                    "for this study, or call it as before to resume that one"
                )


def _change_text(name: str, value: Any) -> str:
    """A setting as the errors name it."""
    if name == "conditions":
        return "; ".join(
            f"{condition}: {settings_text(settings) or 'no settings'}" for condition, settings in value.items()
        )
    if name == "measures":
        options = [(measure["name"], settings_text(measure["options"])) for measure in value]
        return ", ".join(f"{measure} ({text})" if text else measure for measure, text in options) or "none"
    if name == "seeds":
        return f"{len(value)} from {value[0]} to {value[-1]}" if len(value) > 3 else ", ".join(map(str, value))
    return (settings_text(value) or "none") if name == "arguments" else str(value)


def settings_of(
    plan: Plan, fingerprint: str, measures: Sequence[Measure], keep_traces: str, threads: int, batch: int = 1
) -> dict[str, Any]:
    """Describe a study.

    Args:
        plan: Its rows.
        fingerprint: That of the model.
        measures: Its measures.
        keep_traces: Which traces it stores.
        threads: Number of torch's threads.
        batch: How many rows are run together.

    Returns:
        Plain values.
    """
    settings = {
        "fingerprint": fingerprint,
        "prompts": digest([row.as_json() for row in plan.prompts]),
        "seeds": list(plan.seeds),
        "conditions": {name: plain_settings(condition) for name, condition in plan.conditions.items()},
        "arguments": plain_settings(plan.arguments),
        "measures": [measure.describe() for measure in measures],
        "keep_traces": keep_traces,
        "threads": threads,
    }
    settings |= {} if batch == 1 else {"batch": batch}
    return json.loads(json.dumps(settings))


def columns_of(plan: Plan, measures: Sequence[Measure]) -> dict[str, Kind]:
    """List the columns of a study's table.

    Args:
        plan: Its rows.
        measures: Its measures, which know their columns.

    Returns:
        Kinds by column: those of every study, of the prompts, of the measures.

    Raises:
        ValueError: A column of the prompts has the name of a measure's.
    """
    columns: dict[str, Kind] = dict(BASE)
    for name in plan.prompts[0].columns:
        values = [row.columns[name] for row in plan.prompts if row.columns[name] is not None]
        columns[name] = "text"
        if values:
            columns[name] = "flag" if isinstance(values[0], bool) else "number"
            columns[name] = "text" if isinstance(values[0], str) else columns[name]
    for measure in measures:
        for name, kind in measure.columns.items():
            if name in columns:
                raise ValueError(
                    f"prompts: the measure {measure.name} has a column {name!r} too; rename that of the prompts"
                )
            columns[name] = kind
    return columns


def check_folder(out: Path) -> None:
    """Check that a study can be written to a folder, before anything is run.

    Args:
        out: The folder; it is made if it does not exist.

    Raises:
        OSError: The folder cannot be made or written to.
        ValueError: It holds other things than a study.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"out: {out} is a file; name a folder for the study")
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in out.iterdir() if not path.name.startswith(".")]
        probe = out / f".{uuid.uuid4().hex}"
        probe.write_bytes(b"diffvis")
        probe.unlink()
    except OSError as error:
        raise type(error)(error.errno, f"out: the folder {out} cannot be written to ({error.strerror})") from error
    if NAME not in others and (foreign := set(others) - {PROMPTS, PARTS, TRACES}):
        raise ValueError(f"out: the folder {out} holds other files ({min(foreign)}) and no study; name an empty folder")


def create(folder: Path, manifest: Manifest, plan: Plan) -> None:
    """Write the description of a new study. Its prompts come first, so that no half-written study can be opened.

    Args:
        folder: The folder.
        manifest: The description.
        plan: Its rows.

    Raises:
        OSError: A file cannot be written.
    """
    (folder / PARTS).mkdir(exist_ok=True)
    lines = "".join(json.dumps(row.as_json(), ensure_ascii=False) + os.linesep for row in plan.prompts)
    write_bytes_whole(folder / PROMPTS, lines.encode("utf-8", "surrogatepass"))
    manifest.write(folder)


def read(folder: Path) -> tuple[Manifest, list[PromptRow]]:
    """Read the description of a study. No code of the study is run or imported.

    Args:
        folder: Its folder.

    Returns:
        The description, and its prompts.

    Raises:
        FileNotFoundError: The folder holds no study.
        ValueError: The description is damaged, or of a newer version.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no study: it has no {NAME}")
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["format"] != _FORMAT or entry["version"] > _VERSION:
            raise ValueError(f"version {entry['version']} of {entry['format']}")
        manifest = Manifest(entry["settings"], entry["columns"], entry["about"])
        lines = (folder / PROMPTS).read_bytes().decode("utf-8", "surrogatepass").splitlines()
        prompts = [PromptRow.from_json(json.loads(line)) for line in lines]
        complete = set(_NAMES) - set(_LATER) <= set(manifest.settings) and set(BASE) <= set(manifest.columns)
        if not complete or digest([row.as_json() for row in prompts]) != manifest.settings["prompts"]:
            raise ValueError("its files do not belong together")
    except (KeyError, TypeError, ValueError, AttributeError, FileNotFoundError) as error:
        raise ValueError(f"{path} is damaged, or was written by a newer version: {error}") from error
    return manifest, prompts


def restored_plan(manifest: Manifest, prompts: Sequence[PromptRow]) -> Plan:
    """Restore the rows of a study from its description.

    Args:
        manifest: The description.
        prompts: The prompts.

    Returns:
        The plan.

    Raises:
        ValueError: A setting is an array or image, which no study stores.
    """
    settings = manifest.settings
    return Plan(
        prompts,
        settings["seeds"],
        {name: restore(name, condition) for name, condition in settings["conditions"].items()},
        restore("arguments", settings["arguments"]),
    )


def restored_measures(manifest: Manifest) -> list[Measure]:
    """Restore the measures of a study; functions are imported by their paths.

    Args:
        manifest: The description.

    Returns:
        The measures.

    Raises:
        ValueError: A measure is a function without an import path, or its code has changed.
    """
    arguments: dict[str, Any] = {}
    for entry in manifest.settings["measures"]:
        options = entry["options"]
        if entry.get("function") == "" or any(isinstance(value, dict) for value in options.values()):
            raise ValueError(
                f"the measure {entry['name']} is made of objects that a file cannot hold: call dv.study with the same "
                "arguments and folder again, which resumes it"
            )
        arguments[entry["name"]] = entry.get("function") or options
    return check_measures(arguments)
