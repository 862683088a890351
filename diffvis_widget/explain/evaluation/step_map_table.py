"""Builds the table of `python -m diffvis_widget.explain.evaluation.step_maps` from its JSON lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffvis_widget.intervals import mean_interval

from .json_lines import Line, read
from .summaries import Value, difference, mean, median, minus, shown, table

EDGE, RANDOM = "edge", "random"


def step_maps(folder: Path) -> list[str]:
    """Build the table of `python -m diffvis_widget.explain.evaluation.step_maps`.

    Args:
        folder: Folder of the JSON lines.

    Returns:
        Lines of Markdown; empty without measurements.
    """
    measured = read(folder / "step_maps.jsonl")
    lines = [line for line in measured if "maps" in line]
    if not lines:
        return []
    rows: list[list[str]] = []
    names = list(dict.fromkeys(name for line in lines for name in line["maps"]))
    for name in sorted(names, key=lambda name: -mean(_having(lines, name), _of_map(name, 0))):
        part = _having(lines, name)
        with_games = [line for line in part if len(line["maps"][name]) > 3]
        row = [name, str(len(part)), *(shown(part, _of_map(name, measure)) for measure in range(3))]
        row.append("" if name == EDGE else mean_difference(part, minus(_of_map(name, 0), _of_map(EDGE, 0))))
        for measure, higher in ((3, True), (4, False)):
            if not with_games:
                row.append("")
            elif name == RANDOM:
                row.append(median(with_games, _of_map(name, measure))[0])
            else:
                row.append(difference(with_games, _of_map(name, measure), _of_map(RANDOM, measure), higher))
        rows.append(row)
    games = sum(len(line["maps"][RANDOM]) > 3 for line in lines)
    played = f"; {games} of them have the slower maps and play the games" if games else ""
    text = [
        "## Maps of a step, and their repairs",
        "",
        f"    python -m diffvis_widget.explain.evaluation.step_maps --scenes {len(lines)} --games {games}",
        "",
        f"{len(lines)} held-out renderings with known masks, noised to timestep 399, against the union of the objects' "
        f"masks{played}. Pointing over edge: mean of the paired differences. Deletion and insertion: medians of the "
        "paired differences to random; higher deletion and lower insertion are better.",
        "",
        "- RISE, smooth masks: `smooth_rise(trace, step)`; of the objects' words: `smooth_rise(trace, step, word)`, "
        "the sum of the scaled maps. 100 masks each.",
        '- DF-RISE: the paper\'s, 100 masks, actual coverage; hidden as noise: `hidden="noise"`',
        "- DF-CAM: mean over all layers, and single layers",
        "",
    ]
    head = ["map", "scenes", "pointing", "IoU", "AP", "pointing over edge", "deletion over random"]
    return [
        *text,
        *table([*head, "insertion over random"], rows),
        *_games([line for line in measured if "games" in line]),
    ]


def _games(lines: list[Line]) -> list[str]:
    """The table of the games that smooth RISE and the baselines have played alone."""
    if not lines:
        return []
    rows: list[list[str]] = []
    for rules, maps in lines[0]["games"].items():
        for name in maps:
            areas = [median(lines, _of_game(rules, name, game))[0] for game in range(2)]
            over = [
                ""
                if name == RANDOM
                else difference(lines, _of_game(rules, name, game), _of_game(rules, RANDOM, game), higher)
                for game, higher in ((0, True), (1, False))
            ]
            rows.append([rules, name, areas[0], over[0], areas[1], over[1]])
    text = [
        f"    python -m diffvis_widget.explain.evaluation.step_maps --deletion {len(lines)}",
        "",
        f"The games in {len(lines)} of the scenes: medians of the areas, and of the paired differences to random. "
        "Higher deletion and lower insertion are better. The image that is compared is the decoded latents one step "
        "later, as in the paper, or the decoded prediction; deletion puts in zeros, as in the paper, or noise of the "
        "step's level.",
        "",
    ]
    head = ["image compared, put in", "map", "deletion", "deletion over random", "insertion", "insertion over random"]
    return [*text, *table(head, rows)]


def _of_game(rules: str, name: str, game: int) -> Value:
    return lambda line: (line["games"][rules][name][game], 1)


def mean_difference(lines: list[Line], value: Value) -> str:
    """Format the mean of differences between -1 and 1 with its interval, and a verdict.

    Args:
        lines: Measurements, a line a scene.
        value: The difference.

    Returns:
        As "+0.20 (+0.11 to +0.28): better".
    """
    values = [pair[0] / pair[1] for pair in map(value, lines) if pair is not None]
    low, high = mean_interval(values, -1, 1)
    verdict = "better" if low > 0 else "worse" if high < 0 else "no better"
    return f"{np.mean(values):+.2f} ({low:+.2f} to {high:+.2f}): {verdict}"


def _having(lines: list[Line], name: str) -> list[Line]:
    return [line for line in lines if name in line["maps"]]


def _of_map(name: str, measure: int) -> Value:
    def value(line: Line) -> tuple[float, float] | None:
        scores = line["maps"].get(name, [])
        return (scores[measure], 1) if measure < len(scores) else None

    return value
