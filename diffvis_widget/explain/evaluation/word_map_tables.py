"""Builds the tables of `python -m diffvis_widget.explain.evaluation.word_maps` from its JSON lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .json_lines import Line, read
from .summaries import Value, difference, mean, shown, table

_ROLES = {"object": "Object", "colour": "Colour", "size": "Size", "texture": "Texture", "setting": "Setting"}
_COMPARED = ("attention, default layers", "attention, DAAM")
RUNS, EXISTING = "word_maps.jsonl", "image_maps.jsonl"


def word_maps(folder: Path) -> list[str]:
    """Build the tables of `python -m diffvis_widget.explain.evaluation.word_maps`, of runs and of images that exist.

    Args:
        folder: Folder of the JSON lines.

    Returns:
        Lines of Markdown; empty without measurements.
    """
    return [*_of_runs(read(folder / RUNS)), *_of_images(read(folder / EXISTING), read(folder / RUNS))]


def _of_images(lines: list[Line], runs: list[Line]) -> list[str]:
    """The table of the mean of all levels, beside the IoU of the same scenes' runs."""
    if not lines:
        return []
    text = [
        "## Ways to make a word's map, on images that exist",
        "",
        f"    python -m diffvis_widget.explain.evaluation.word_maps --existing --scenes {len(lines)}",
        "",
        f"The {len(lines)} renderings as images that exist: `dv.trace_image(pipe, image, caption, timesteps=...)`, at "
        "the levels of the tables above, with other noise. The mean of the maps of all levels. The last column is the "
        "paired difference of the IoU to that of a run, a median over scenes.",
        "",
    ]
    of_scene = {line["scene"]: line for line in runs}
    rows: list[list[str]] = []
    for role, title in _ROLES.items():
        with_role = [line for line in lines if role in line["roles"]]
        paired = [
            {"roles": {role: line["roles"][role], "runs": of_scene[line["scene"]]["roles"][role]}}
            for line in with_role
            if line["scene"] in of_scene
        ]
        for method in with_role[0]["roles"][role]["values"] if with_role else ():
            values = [shown(with_role, _of_map(role, method, measure, -1)) for measure in range(3)]
            over = difference(paired, _of_map(role, method, 1, -1), _of_map("runs", method, 1, -1)) if paired else ""
            rows.append([title.lower(), method, *values, over])
    return [*text, *table(["role", "map", "pointing", "IoU", "AP", "IoU over that of a run"], rows)]


def _of_runs(lines: list[Line]) -> list[str]:
    if not lines:
        return []
    timesteps = lines[0]["timesteps"]
    text = [
        "## Ways to make a word's map",
        "",
        "    python -m diffvis_widget.explain.evaluation.word_maps",
        "",
        f"{len(lines)} held-out renderings with known masks, noised to {len(timesteps)} levels and evaluated once at "
        "each; guidance 7.5. Pointing, IoU and AP as above. The first of the tables of a role is about the mean of the "
        "maps of all levels, the second about each level. Differences are paired: medians over scenes.",
        "",
        '- refined: `heat_map(word, kind="refined")`; at the image\'s size: '
        '`size="image"`; among: `among=` the words of the things and of the setting',
        "- attention: probabilities; default layers: `heat_map(word)`; all layers: raw cross-attention; DAAM: its "
        "aggregation; last step: what attention-map-diffusers stores by default (all layers; the last step at every "
        "level)",
        "- output space: product of the attention output of a position with a word's value, softmax over the words, "
        "after ConceptAttention, which is made for joint attention and not for U-Nets",
        "- the truth on the grid: the mask itself, averaged over the cells of the map",
        "",
    ]
    for role, title in _ROLES.items():
        with_role = [line for line in lines if role in line["roles"]]
        if not with_role:
            continue
        count = sum(line["roles"][role]["words"] for line in with_role)
        share = np.mean([line["roles"][role]["share"] for line in with_role])
        text += [f"### {title} words ({count}, masks of {share:.0%} of the image)", ""]
        text += _mean_over_levels(with_role, role)
        methods = list(with_role[0]["roles"][role]["values"])
        rows = [
            [method, *(f"{mean(with_role, _of_map(role, method, 1, step)):.2f}" for step in range(len(timesteps)))]
            for method in methods
        ]
        text += ["IoU at each level (timestep):", "", *table(["map", *map(str, timesteps)], rows)]
    return text


def _mean_over_levels(lines: list[Line], role: str) -> list[str]:
    methods = list(lines[0]["roles"][role]["values"])
    rows: list[list[str]] = []
    for method in methods:
        iou, precision = (_of_map(role, method, measure, -1) for measure in (1, 2))
        over = [
            "" if method == other else difference(lines, iou, _of_map(role, other, 1, -1)) for other in _COMPARED
        ] + ["" if method == "random" else difference(lines, precision, _of_map(role, "random", 2, -1))]
        rows.append([method, *(shown(lines, _of_map(role, method, measure, -1)) for measure in range(3)), *over])
    head = ["map", "pointing", "IoU", "AP", "IoU over default layers", "IoU over DAAM", "AP over random"]
    return table(head, rows)


def _of_map(role: str, method: str, measure: int, step: int) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        scores = line["roles"].get(role)
        return None if scores is None else (scores["values"][method][measure][step] * scores["words"], scores["words"])

    return value
