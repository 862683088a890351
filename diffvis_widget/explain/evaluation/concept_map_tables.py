"""Builds the tables of `python -m diffvis_widget.explain.evaluation.concept_maps` from its JSON lines."""

from __future__ import annotations

from pathlib import Path

from .json_lines import Line, read
from .step_map_table import mean_difference
from .summaries import Value, difference, median, minus, shown, table

_ROLES = {"object": "object", "colour": "colour", "size": "size", "texture": "texture", "setting": "setting"}
_SOURCES = ("word of the prompt", "word outside the prompt")
LIMIT = 0.15
"""The share of a colour's map on the like thing of the other colour that counts as telling both apart."""


def concept_maps(folder: Path) -> list[str]:
    """Build the tables of `python -m diffvis_widget.explain.evaluation.concept_maps`.

    Args:
        folder: Folder of the JSON lines.

    Returns:
        Lines of Markdown; empty without measurements.
    """
    lines = read(folder / "concept_maps.jsonl")
    scenes = [line for line in lines if "roles" in line]
    pairs = [line for line in lines if line.get("leakage")]
    if not scenes:
        return []
    text = [
        "## Words outside the prompt",
        "",
        "    python -m diffvis_widget.explain.evaluation.concept_maps",
        "",
        f"{len(scenes)} held-out renderings, noised to ten levels; the mean of the maps of all levels; guidance 7.5. "
        "Every word of the caption that has a region is read twice in one run: as a word of the prompt, and as a "
        "concept (`concepts=`) outside of it, in a prompt of its own. A word that the caption has twice, for two "
        "things, has the region of each as a word of the prompt, and both as a concept. The last columns are the "
        "paired difference, as a mean and as a median over scenes.",
        "",
        *_by_role(scenes, "roles"),
    ]
    if pairs:
        methods = list(pairs[0]["leakage"])
        leakage = [[method, median(pairs, _leak(method))[0], shown(pairs, _below(method, LIMIT))] for method in methods]
        text += [
            f"Two things of one shape in two colours, {len(pairs)} renderings: the mean of a colour's map on the thing "
            "of the other colour, over that on its own thing. 0 tells them apart, 1 does not. Both colours and the "
            "shape are concepts; colours compete in the refined maps, in a way that was chosen on other renderings.",
            "",
            *table(["map of a colour", "leakage, median", f"share of colours up to {LIMIT:g}"], leakage),
        ]
    text += _heads([line for line in lines if line.get("heads")])
    unnamed = [line for line in lines if line.get("unnamed")]
    if unnamed:
        text += [
            f"Things that the prompt does not name: {len(unnamed)} of these renderings with two things. The concepts "
            "are the words of one of them that the prompt, which names the other one and the setting, does not have. "
            "They are compared with the same words in the whole caption, in another run.",
            "",
            *_by_role(unnamed, "unnamed"),
        ]
    return text


def _by_role(lines: list[Line], part: str) -> list[str]:
    """The table of words of each role, as words of the prompt and outside of it."""
    rows: list[list[str]] = []
    for role, title in _ROLES.items():
        of_role = [line for line in lines if role in line[part]]
        for method in of_role[0][part][role]["values"] if of_role else ():
            reference = _of(part, role, method.replace(_SOURCES[1], _SOURCES[0]), 1)
            over, compared = "", ""
            if method.startswith(_SOURCES[1]):
                over = mean_difference(of_role, minus(_of(part, role, method, 1), reference))
                compared = difference(of_role, _of(part, role, method, 1), reference)
            values = (shown(of_role, _of(part, role, method, index)) for index in range(3))
            rows.append([title, method, *values, over, compared])
    return table(["role", "map", "pointing", "IoU", "AP", "IoU over the word of the prompt, mean", "median"], rows)


def _heads(lines: list[Line]) -> list[str]:
    """The table of one head and of the lower levels."""
    if not lines:
        return []
    rows = [
        [
            method,
            median(lines, _of_head(method, 0))[0],
            shown(lines, _below_of_head(method)),
            *(shown(lines, _of_head(method, measure)) for measure in range(1, 4)),
        ]
        for method in lines[0]["heads"]
    ]
    return [
        f"The attention in {len(lines)} other renderings, at the levels from timestep 499 on, and of the head that "
        "tells colours apart best (head 3 of `up_blocks.2.attentions.1`). It was chosen on none of these renderings. "
        "Pointing, IoU and AP are those of a colour's map on its own thing.",
        "",
        *table(["map of a colour", "leakage, median", f"up to {LIMIT:g}", "pointing", "IoU", "AP"], rows),
    ]


def _of_head(method: str, measure: int) -> Value:
    def value(line: Line) -> tuple[float, float]:
        scores = [colour[measure] for colour in line["heads"][method]]
        return sum(scores), len(scores)

    return value


def _below_of_head(method: str) -> Value:
    return lambda line: (sum(colour[0] <= LIMIT for colour in line["heads"][method]), len(line["heads"][method]))


def _of(part: str, role: str, method: str, index: int) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        scores = line[part].get(role)
        return None if scores is None else (scores["values"][method][index] * scores["words"], scores["words"])

    return value


def _leak(method: str) -> Value:
    return lambda line: (sum(line["leakage"][method]), len(line["leakage"][method]))


def _below(method: str, limit: float) -> Value:
    return lambda line: (sum(value <= limit for value in line["leakage"][method]), len(line["leakage"][method]))
