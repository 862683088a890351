"""The conditions of a study: settings of a run by name, as values that a file can hold and a prompt can complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from diffvis_widget.arguments import shorten
from diffvis_widget.intervene import Drop, Freeze, Intervention, Switch, Weight
from diffvis_widget.schedule import ScheduleKind

from .columns import plain_list
from .prompts import PromptRow

Settings = dict[str, Any]
REFUSED = {
    "seed": "seeds=",
    "generator": "seeds=",
    "num_images_per_prompt": "more seeds",
    "on_step": "a measure",
    "output_type": "keep_traces=",
}
"""Arguments of a run that a study sets itself, and what to use in their place."""
SCHEDULES: tuple[ScheduleKind, ...] = ("uniform", "early", "late")
_DIGEST = "sha256"


def check_conditions(conditions: Any) -> dict[str, Settings]:
    """Check the conditions of a study.

    Args:
        conditions: Settings by name; a list of schedules; None for a single condition without settings.

    Returns:
        Settings by name; a condition may exchange the prompt by an entry "prompt".

    Raises:
        TypeError: The conditions, or a setting, have a type that a study cannot store.
        ValueError: There is no condition, a name is empty, or a study sets an argument itself.

    Example:
        >>> check_conditions(["uniform", "early"])
        {'uniform': {'schedule': 'uniform'}, 'early': {'schedule': 'early'}}
    """
    if conditions is None:
        return {"default": {}}
    if isinstance(conditions, Sequence) and not isinstance(conditions, str | bytes):
        if unknown := [name for name in conditions if name not in SCHEDULES]:
            raise ValueError(
                f"conditions: a list names schedules ({', '.join(SCHEDULES)}), not {shorten(unknown[0])}; "
                'write {"strong": {"guidance_scale": 9}} for other settings'
            )
        conditions = {name: {"schedule": name} for name in conditions}
    if not isinstance(conditions, Mapping) or not conditions:
        example = '{"plain": {}, "early": {"schedule": "early"}}'
        raise TypeError(f"conditions must be settings by name, such as {example}, not {shorten(conditions)}")
    checked: dict[str, Settings] = {}
    for name, settings in conditions.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"conditions: the name of a condition must be a text with letters, not {shorten(name)}")
        if not isinstance(settings, Mapping):
            raise TypeError(f"conditions: the settings of {name!r} must be a dictionary, not {shorten(settings)}")
        checked[name] = check_settings(f"conditions[{name!r}]", settings)
    return checked


def check_settings(owner: str, settings: Mapping[str, Any]) -> Settings:
    """Check arguments of a run.

    Args:
        owner: What holds them, for the error.
        settings: Arguments of `dv.trace` and of the pipeline call.

    Returns:
        The same, in a dictionary.

    Raises:
        TypeError: A value has a type that a study cannot store.
        ValueError: A study sets the argument itself.
    """
    for name, value in settings.items():
        if name in REFUSED:
            raise ValueError(f"{owner}: a study sets {name} itself; use {REFUSED[name]} instead")
        describe(f"{owner}: {name}", value)
    return dict(settings)


def describe(name: str, value: Any) -> Any:
    """Describe a setting as JSON: equal values have equal descriptions.

    Args:
        name: Name of the setting, for the error.
        value: A plain value, an intervention, an array, an image or a tensor.

    Returns:
        Plain values; an array, image or tensor is described by its digest.

    Raises:
        TypeError: The value has another type, or is an intervention that holds a run.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Freeze):
        raise TypeError(f"{name}: a study cannot freeze the attention of a run; it can weight, drop and switch words")
    if isinstance(value, Intervention):
        return {"intervention": value.describe()}
    if isinstance(value, Mapping):
        return {str(key): describe(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(name, item) for item in value]
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    if hasattr(value, "tobytes"):
        shape = list(getattr(value, "shape", None) or getattr(value, "size", ()))
        return {_DIGEST: hashlib.sha256(value.tobytes()).hexdigest(), "shape": shape}
    raise TypeError(
        f"{name} must be a text, number, list, dictionary, intervention, array or image, which a study can store and "
        f"compare, not {shorten(value)}"
    )


def restore(name: str, value: Any) -> Any:
    """Restore a setting from its description.

    Args:
        name: Name of the setting, for the error.
        value: What `describe` returned.

    Returns:
        The setting.

    Raises:
        ValueError: The description is that of an array or image, which no study stores.
    """
    if isinstance(value, Mapping):
        if _DIGEST in value:
            raise ValueError(
                f"{name} is an array or image, which the study does not store: call dv.study with its arguments again"
            )
        if "intervention" in value:
            return _intervention(value["intervention"])
        return {key: restore(name, item) for key, item in value.items()}
    return [restore(name, item) for item in value] if isinstance(value, list) else value


def _intervention(entry: Mapping[str, Any]) -> Intervention:
    if entry["kind"] == "switch":
        return Switch(entry["prompt"], entry["step"])
    word = tuple(entry["word"]) if isinstance(entry["word"], list) else entry["word"]
    begin, end = entry["steps"]
    if entry["kind"] == "drop":
        return Drop(word, (begin, end))
    return Weight(word, entry["factor"], (begin, end))


def completed(settings: Mapping[str, Any], row: PromptRow) -> tuple[str, Settings]:
    """Complete the settings of a condition by a prompt.

    Args:
        settings: Settings; texts in "prompt", in the negative prompt and in interventions may name columns of the
            prompts in braces: "a photo of {prompt}", "{object}".
        row: The prompt.

    Returns:
        The prompt of the run, and the arguments of `dv.trace`.

    Raises:
        ValueError: A text names a column that the prompts do not have, or that is empty for this one.
    """
    arguments = {name: _filled(value, row) for name, value in settings.items()}
    exchanged = arguments.pop("prompt", row.prompt)
    if isinstance(exchanged, Mapping):
        exchanged = exchanged.get(row.prompt, row.prompt)
    if not isinstance(exchanged, str):
        raise ValueError(f"the prompt of a condition must be a text or a dictionary of texts, not {shorten(exchanged)}")
    return exchanged, arguments


def _filled(value: Any, row: PromptRow) -> Any:
    if isinstance(value, str) and "{" in value:
        columns = {name: text for name, text in row.columns.items() if text is not None} | {"prompt": row.prompt}
        try:
            return value.format_map(columns)
        except (KeyError, IndexError, ValueError, AttributeError):
            names = ", ".join(columns)
            raise ValueError(f"{value!r} names no column of the prompts; this one has {names}") from None
    if isinstance(value, Intervention):
        texts = {field.name: getattr(value, field.name) for field in fields(value)}  # pyright: ignore[reportArgumentType]
        return replace(value, **{name: _filled(text, row) for name, text in texts.items()})  # pyright: ignore[reportArgumentType]
    if isinstance(value, tuple):
        return tuple(_filled(item, row) for item in value)
    return [_filled(item, row) for item in value] if isinstance(value, list) else value


def plain_settings(settings: Mapping[str, Any]) -> Settings:
    """Describe all settings.

    Args:
        settings: Settings by name.

    Returns:
        Their descriptions by name.
    """
    return {name: describe(name, plain_list(value)) for name, value in settings.items()}
