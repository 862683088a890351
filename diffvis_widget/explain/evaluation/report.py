"""The page of the explaining methods' measurements, made from their JSON lines. Nothing on it is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.shipped import scenes_fingerprint

from .json_lines import Line, read
from .metrics import THRESHOLD, interval

_INTRO = """# What the explaining methods find

Made by the commands below from the JSON lines beside this page; each goes on where it was interrupted. Intervals are
of 95 %, from drawing whole scenes (captions) anew 2,000 times. The model is the built-in scenes model, fingerprint
{model}.
"""
_NAMES = {"object": "Object words", "colour": "Colour words", "setting": "Setting words"}
Value = Callable[[Line], tuple[float, float] | None]
"""Of a line: the sum of what was measured in it, and how many that were."""


def write(folder: Path) -> None:
    """Write README.md in the folder, from whatever was measured there."""
    known = [line for name in ("words", "steps", "sanity", "roles") for line in read(folder / f"{name}.jsonl")]
    models = ", ".join(sorted({line["model"] for line in known})) or "unknown"
    parts = [_INTRO.format(model=models)]
    if known and models != (shipped := scenes_fingerprint()):
        parts += [f"Newer weights ship by now (fingerprint {shipped}): what they do is not on this page.\n"]
    parts += [*evaluation(folder), *roles(folder), *speed(folder)]
    (folder / "README.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, with an empty line behind it."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _shown(lines: Sequence[Line], value: Value, digits: int = 2) -> str:
    low, high = _ends(lines, value)[1:]
    return f"{_mean(lines, value):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _ends(lines: Sequence[Line], value: Value) -> tuple[float, float, float]:
    pairs = [pair for pair in map(value, lines) if pair is not None]
    return interval([total for total, _ in pairs], [count for _, count in pairs])


def _mean(lines: Sequence[Line], value: Value) -> float:
    return _ends(lines, value)[0]


def _difference(lines: Sequence[Line], value: Value, other: Value, higher: bool = True) -> str:
    """The mean difference with its interval, and what that says."""

    def paired(line: Line) -> tuple[float, float] | None:
        first, second = value(line), other(line)
        return None if first is None or second is None else (first[0] - second[0] * first[1] / second[1], first[1])

    mean, low, high = _ends(lines, paired)
    sign = 1 if higher else -1
    better, worse = min(sign * low, sign * high) > 0, max(sign * low, sign * high) < 0
    verdict = "better" if better else "worse" if worse else "no better"
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f}): {verdict}"


# -- evaluation --------------------------------------------------------------------------------------------------------


def evaluation(folder: Path) -> list[str]:
    """The tables of `python -m diffvis_widget.explain.evaluation`."""
    words, steps, sanity = (read(folder / f"{part}.jsonl") for part in ("words", "steps", "sanity"))
    if not (words or steps or sanity):
        return []
    text = [
        "## Against ground truth",
        "",
        "    python -m diffvis_widget.explain.evaluation",
        "",
        "Held-out renderings, whose masks are known. Every step is given the rendering, noised to the step's level, so "
        "that the truth holds at all of them. The first level is noise alone: what is found there follows from the "
        "caption (places, and what is above or left of what). Pointing: the map's maximum lies in the mask. IoU: with "
        f"the map, min-max scaled, from {THRESHOLD} on. AP: average precision of its pixels. Centre, edge (of the "
        "step's prediction) and random maps know nothing of the word.",
        "",
    ]
    return [*text, *_words(words), *_steps(steps), *_sanity(sanity)]


def _words(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    text = [f"### Maps of words: {len(lines)} scenes", ""]
    methods = list(dict.fromkeys(name for line in lines for role in line["roles"].values() for name in role["methods"]))
    for role, title in _NAMES.items():
        known = [line for line in lines if role in line["roles"]]
        count = sum(line["roles"][role]["words"] for line in known)
        share = np.mean([line["roles"][role]["share"] for line in known])
        text += [f"{title} ({count}, masks of {share:.0%} of the picture), mean of the maps of all steps:", ""]
        rows: list[list[str]] = []
        for method in methods:
            values = [_of_word(role, method, measure, -1) for measure in range(3)]
            blind = _of_word(role, "random", 2, -1)
            if any(method in line["roles"][role]["methods"] for line in known):
                over = "" if method == "random" else _difference(known, values[2], blind)
                rows.append([method, *(_shown(known, value) for value in values), over])
        text += table(["method", "pointing", "IoU", "AP", "AP over random"], rows)
    timesteps = lines[0]["timesteps"]
    known = [line for line in lines if "object" in line["roles"]]
    text += ["AP of object words, step by step (timestep):", ""]
    rows = [
        [method, *(f"{_mean(known, _of_word('object', method, 2, step)):.2f}" for step in range(len(timesteps)))]
        for method in methods
    ]
    return [*text, *table(["method", *map(str, timesteps)], rows)]


def _of_word(role: str, method: str, measure: int, step: int) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        found = line["roles"].get(role, {}).get("methods", {}).get(method)
        return None if found is None else (found["values"][measure][step] * found["words"], found["words"])

    return value


def _steps(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    masks = np.mean([line["masks"] for line in lines])
    text = [
        f"### Maps of steps: {len({line['scene'] for line in lines})} scenes",
        "",
        "Against the masks of all things together. Deletion AUC: better the higher; insertion AUC: better the "
        f"lower (1 - SSIM of the decoded next latents). DF-RISE stopped after {masks:.0f} masks on average (of 500, "
        "tolerance 0.05, actual coverage); DF-LIME had 300 samples.",
        "",
    ]
    for step in sorted({line["step"] for line in lines}):
        part = [line for line in lines if line["step"] == step]
        text += [f"Timestep {part[0]['timestep']} ({len(part)} scenes):", ""]
        rows: list[list[str]] = []
        for method in part[0]["methods"]:
            values = [_of_step(method, measure) for measure in range(5)]
            over = [
                "" if method == "random" else _difference(part, values[measure], _of_step("random", measure), higher)
                for measure, higher in ((2, True), (3, True), (4, False))
            ]
            rows.append([method, *(_shown(part, value) for value in values), *over])
        head = ["method", "pointing", "IoU", "AP", "deletion", "insertion"]
        text += table([*head, "AP over random", "deletion over random", "insertion over random"], rows)
    return text


def _of_step(method: str, measure: int) -> Value:
    return lambda line: (line["methods"][method][measure], 1)


def _sanity(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    stages = lines[0]["stages"]
    text = [
        f"### Sanity check: {len(lines)} scenes",
        "",
        "Mean rank correlation of a map with the trained model's, when the denoiser's weights are drawn anew, block by "
        "block from its output to its input (each column on top of those before it; Adebayo et al., NeurIPS 2018, "
        "arXiv 1810.03292), at timestep 499. The first column is the trained model with other masks and samples. A map "
        "that explains the model falls to about 0.",
        "",
    ]
    rows = [
        [method, *(f"{_mean(lines, _of_stage(method, stage)):.2f}" for stage in range(len(stages)))]
        for method in lines[0]["methods"]
    ]
    return [*text, *table(["method", *stages], rows)]


def _of_stage(method: str, stage: int) -> Value:
    return lambda line: (line["methods"][method][stage], 1)


# -- roles -------------------------------------------------------------------------------------------------------------


def roles(folder: Path) -> list[str]:
    """The tables of `python -m diffvis_widget.explain.evaluation.roles`."""
    lines = read(folder / "roles.jsonl")
    if not lines:
        return []
    schedules = list(lines[0]["curves"])
    names = list(dict.fromkeys(name for line in lines for name in line["curves"][schedules[0]]))
    steps = len(lines[0]["settled"]["coarse"])
    text = [
        "## Relevance by word role, and what comes first",
        "",
        "    python -m diffvis_widget.explain.evaluation.roles",
        "",
        f"{len(lines)} held-out captions of two things, a relation and a setting; {steps} steps, guidance 7.5, "
        "strength 60. A word's score is the sum over the steps of its relevance, min-max scaled over the words of a "
        f"step: 0 to {steps}.",
        "",
    ]
    rows = [
        [
            role,
            *(_shown(lines, _score(schedule, role), 1) for schedule in schedules),
            _difference(lines, _score("early", role), _score("late", role)).split(":")[0],
        ]
        for role in names
    ]
    text += table(["role", *schedules, "early minus late"], rows)
    claims = [
        (
            "Nouns carry more than relations (object minus relation, uniform)",
            ("uniform", "object"),
            ("uniform", "relation"),
        ),
        (
            "Early sampling strengthens composition (relation, early minus late)",
            ("early", "relation"),
            ("late", "relation"),
        ),
        ("Late sampling strengthens texture (texture, late minus early)", ("late", "texture"), ("early", "texture")),
    ]
    text += ["What the paper found in Stable Diffusion, asked here:", ""]
    known = [(name, left, other) for name, left, other in claims if {left[1], other[1]} <= set(names)]
    text += [_claim(lines, name, _minus(_score(*left), _score(*other)), 1) for name, left, other in known]
    return [*text, "", *_order(lines, names)]


def _score(schedule: str, role: str) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        curve = line["curves"][schedule].get(role)
        return None if curve is None else (float(np.sum(curve)), 1)

    return value


def centre(curve: Sequence[float]) -> float | None:
    """Where on the way from the first step (0) to the last (1) the middle of a curve's mass lies."""
    total = float(np.sum(curve))
    return float(np.dot(curve, np.linspace(0, 1, len(curve)))) / total if total > 0 else None


def _centre(role: str) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        found = centre(line["curves"]["uniform"].get(role, []))
        return None if found is None else (found, 1)

    return value


def reached(curve: Sequence[float], level: float = 0.5) -> float:
    """The first place, 0 to 1, from which a curve stays at a level or above it."""
    below = np.flatnonzero(np.asarray(curve) < level)
    return 0.0 if not len(below) else min(int(below[-1]) + 1, len(curve) - 1) / (len(curve) - 1)


def _order(lines: list[Line], names: Sequence[str]) -> list[str]:
    """Semantics first, detail later: in the words, and in the picture."""
    semantic, detailed = ("object", "relation", "setting"), ("colour", "texture")

    def later(line: Line) -> tuple[float, float] | None:
        groups = [[pair[0] for role in group if (pair := _centre(role)(line))] for group in (detailed, semantic)]
        return (float(np.mean(groups[0]) - np.mean(groups[1])), 1) if all(groups) else None

    def halves(line: Line) -> tuple[float, float]:
        return reached(line["settled"]["fine"]) - reached(line["settled"]["coarse"]), 1

    rows = [[f"relevance of {role} words", _shown(lines, _centre(role))] for role in names]
    rows += [
        [f"{half} half of the picture", _shown(lines, lambda line, half=half: (reached(line["settled"][half]), 1))]
        for half in ("coarse", "fine")
    ]
    text = [
        "When: 0 is the first step, 1 the last. Of relevance, the middle of its mass (0.5 if it does not change); of "
        "the picture, from when on half of the last prediction's variance is there (coarse: means over 12 x 12 pixels; "
        "fine: the rest).",
        "",
        *table(["what", "when"], rows),
    ]
    claims = [
        ("Words (colour and texture minus object, relation and setting)", later),
        ("Picture (fine minus coarse)", halves),
    ]
    text += ["Semantics first, detail later? Differences in when, of the same captions:", ""]
    return [*text, *(_claim(lines, name, value, 3) for name, value in claims), ""]


def _claim(lines: Sequence[Line], name: str, value: Value, digits: int) -> str:
    """A difference with its interval, and whether it holds that it is positive."""
    mean, low, high = _ends(lines, value)
    verdict = "yes" if low > 0 else "the reverse" if high < 0 else "not decided"
    return f"- {name}: {mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f}): {verdict}."


def _minus(first: Value, other: Value) -> Value:
    """The difference, in the lines that have both."""

    def value(line: Line) -> tuple[float, float] | None:
        pairs = first(line), other(line)
        return None if pairs[0] is None or pairs[1] is None else (pairs[0][0] - pairs[1][0], 1)

    return value


# -- speed -------------------------------------------------------------------------------------------------------------


def speed(folder: Path) -> list[str]:
    """The table of `python -m benchmarks.explain.speed`."""
    lines: list[dict[str, Any]] = read(folder / "speed.jsonl")
    if not lines:
        return []
    text = [
        "## Speed",
        "",
        "    python -m benchmarks.explain.speed",
        "",
        "Against the way of the paper's published code (masks one at a time, each result decoded; a generation for "
        "every step), on the same model and machine, both in one run, in turn.",
        "",
    ]
    rows = [
        [
            line["what"],
            f"{line['naive']:.1f} s",
            f"{line['ours']:.1f} s",
            f"{line['ratio']:.1f} x ({line['low']:.1f} to {line['high']:.1f})",
            f"{line['work']:.1f} x",
            f"{line['bar']:g} x",
            line["same"],
        ]
        for line in lines
    ]
    text += table(["what", "reference's way", "here", "ratio (range)", "in CPU time", "bar", "same maps"], rows)
    for stopped in [line["stopped"] for line in lines if "stopped" in line]:
        text += [
            f"Stopping at convergence (tolerance 0.05, actual coverage) saves more: {stopped['masks']} of "
            f"{stopped['of']} masks, correlation {stopped['correlation']:.2f} with the map of all.",
            "",
        ]
    return text
