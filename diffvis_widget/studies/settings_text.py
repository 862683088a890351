"""Settings of a study in words, and the call of `dv.study` that makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .prompts import PromptRow

_FEW_PROMPTS = 6
_NOT_STORED = "..."


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write settings in words.

    Args:
        settings: Settings as a study stores them.

    Returns:
        One line.

    Example:
        >>> settings_text({"guidance_scale": 12.0, "schedule": "early"})
        'guidance_scale 12, schedule early'
        >>> settings_text({"interventions": [{"intervention": {"kind": "drop", "word": "red", "steps": [0, 5]}}]})
        'without “red” in steps 1 to 5'
    """
    parts: list[str] = []
    for name, value in settings.items():
        if name == "interventions" and value:
            parts += [_intervention_text(entry["intervention"]) for entry in value]
        else:
            parts.append(f"{name} {_value_text(value)}")
    return ", ".join(parts)


def call_text(about: Mapping[str, Any], settings: Mapping[str, Any], prompts: Sequence[PromptRow], folder: str) -> str:
    """Write the call of `dv.study` that makes a study again.

    Args:
        about: What the study stores about itself.
        settings: Its settings.
        prompts: Its prompts.
        folder: Name of its folder.

    Returns:
        Python. What a file cannot hold stands by its name, a pipeline or a function of a notebook, or as "...".
    """
    conditions: Mapping[str, Any] = settings["conditions"]
    seeds: list[int] = settings["seeds"]
    arguments: dict[str, str] = {}
    if prompts[0].seed is None:
        arguments["seeds"] = repr(len(seeds) if seeds == list(range(len(seeds))) else seeds)
    arguments["measures"] = _measures(settings["measures"])
    if conditions != {"default": {}}:
        is_schedules = all(condition == {"schedule": name} for name, condition in conditions.items())
        arguments["conditions"] = _source(list(conditions)) if is_schedules else _lines(conditions)
    arguments["out"] = _source(folder)
    arguments |= {name: _source(settings[name]) for name in ("keep_traces", "threads", "batch") if name in settings}
    if settings["keep_traces"] == "none":
        del arguments["keep_traces"]
    arguments |= {name: _source(value) for name, value in settings["arguments"].items()}
    lines = [_model(about, settings), _prompts(prompts, folder)]
    lines += [f"{name}={value}," for name, value in arguments.items()]
    return "\n".join(["dv.study(", *(f"    {line}" for line in lines), ")"])


def _model(about: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    if about["model_is_named"]:
        return f"{_source(about['model'])}," + ("" if about["model"] else "  # the built-in scenes model")
    return f"pipe,  # {about['model']}, with the fingerprint {settings['fingerprint']}"


def _prompts(prompts: Sequence[PromptRow], folder: str) -> str:
    if len(prompts) <= _FEW_PROMPTS and not any(row.roles or row.columns or row.seed is not None for row in prompts):
        return f"{_source([row.prompt for row in prompts])},"
    return f"{_source(folder + '/prompts.jsonl')},  # {len(prompts)} prompts, in the folder of the study"


def _measures(measures: Sequence[Mapping[str, Any]]) -> str:
    if not any(measure["options"] or "function" in measure for measure in measures):
        return _source([measure["name"] for measure in measures])
    entries: list[str] = []
    for measure in measures:
        value = _source(measure.get("function") or measure["options"])
        if measure.get("function") == "":
            value = measure["name"] if measure["name"].isidentifier() else _NOT_STORED
        entries.append(f"{_source(measure['name'])}: {value}")
    return "{" + ", ".join(entries) + "}"


def _lines(conditions: Mapping[str, Any]) -> str:
    entries = [f"        {_source(name)}: {_source(condition)}," for name, condition in conditions.items()]
    return "\n".join(["{", *entries, "    }"])


def _source(value: Any) -> str:
    """Python of a stored setting."""
    if isinstance(value, Mapping):
        if "intervention" in value:
            return _intervention_source(value["intervention"])
        if value.keys() & {"sha256", "meter", "code"}:  # an array, a meter or a function, which no file holds
            return _NOT_STORED
        return "{" + ", ".join(f"{_source(name)}: {_source(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return ("[{}]" if isinstance(value, list) else "({})").format(", ".join(map(_source, value)))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        if "sha256" in value:
            return f"an array or image of {' × '.join(map(str, value['shape']))}"
        return ", ".join(f"{name}: {_value_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_value_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return {True: "yes", False: "no", None: "none"}[value] if isinstance(value, bool | None) else str(value)


def _intervention_text(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "switch":
        return f"prompt “{entry['prompt']}” from step {entry['step'] + 1}"
    word = entry["word"]
    name = " and ".join(f"“{part}”" for part in (word if isinstance(word, list) else [word]))
    begin, end = entry["steps"]
    steps = "" if not begin and end is None else f" from step {begin + 1}" if end is None else ""
    steps = steps or ("" if end is None else f" in steps {begin + 1} to {end}")
    return (f"without {name}" if entry["kind"] == "drop" else f"{name} weighted {entry['factor']:g} times") + steps


def _intervention_source(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "switch":
        return f"dv.intervene.switch({_source(entry['prompt'])}, {entry['step']})"
    steps = "" if entry["steps"] == [0, None] else f", steps={_source(tuple(entry['steps']))}"
    factor = f", {entry['factor']!r}" if entry["kind"] == "weight" else ""
    return f"dv.intervene.{entry['kind']}({_source(entry['word'])}{factor}{steps})"
