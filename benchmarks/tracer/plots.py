"""How the cost grows: `python -m benchmarks.tracer.plots` writes `docs/pages/cost.svg`, four small plots.

They show it against steps, words, layers and resolution, on a guided U-Net of the shape of Stable Diffusion 1.5 with a
tenth of its width, so that it takes minutes; the tracer's share is greater there than in the full one. Solid:
milliseconds of CPU time of the tracer's own code (of the run against steps, of a step elsewhere), the median of
repeated runs. Dashed: size of the maps in MB (of the run; of a step).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tracer import models
from benchmarks.tracer.timing import timed
from benchmarks.tracer.tracer_time import measure_tracer_time
from diffvis_widget.tracer import Tracer

WORDS = " ".join(["a red circle above a small blue square in the snow and"] * 6).split()
Point = tuple[float, float, float]  # at, milliseconds, megabytes
WIDTH, HEIGHT, LEFT, TOP = 300, 190, 46, 34
WIDTH_OF_MODEL = 32  # and norms in groups of 32


def point(at: float, model: models.Model, repeats: int, steps: int | None = None, **more: Any) -> Point:
    """A point of a plot. steps: measures a run of so many steps as a whole; None measures a step."""
    pipe, arguments = model
    arguments = {**arguments, **more}

    def around() -> Tracer:
        return Tracer(pipe)

    tracer = timed(pipe, arguments, around).inside  # warm
    size = sum(part.nbytes for part in tracer.trace.records[-1].maps) / 2**20
    with measure_tracer_time() as seconds_spent:

        def spent(count: int) -> float:
            before = seconds_spent()
            timed(pipe, arguments, around, count)
            return seconds_spent() - before

        seconds = [spent(steps) if steps else (spent(6) - spent(2)) / 4 for _ in range(repeats)]
    return at, 1000 * statistics.median(seconds), (steps or 1) * size


def measure(repeats: int) -> dict[str, list[Point]]:
    model = models.stable_diffusion(width=WIDTH_OF_MODEL)

    def layers(levels: int) -> Point:
        smaller = models.stable_diffusion(width=WIDTH_OF_MODEL, levels=levels)
        return point(5 * levels + 1, smaller, repeats)

    plots: dict[str, Callable[[], list[Point]]] = {
        "steps": lambda: [point(n, model, repeats, n) for n in (2, 5, 10, 20)],
        "words": lambda: [point(n, model, repeats, prompt=" ".join(WORDS[:n])) for n in (1, 10, 30, 60)],
        "word-attention layers": lambda: [layers(levels) for levels in (1, 2, 3)],
        "side of the image in px": lambda: [
            point(8 * side, models.stable_diffusion(side, WIDTH_OF_MODEL), repeats) for side in (16, 32, 48, 64)
        ],
    }
    measured: dict[str, list[Point]] = {}
    for name, make in plots.items():
        measured[name] = make()
        print(name, [tuple(round(value, 3) for value in values) for values in measured[name]], flush=True)
    return measured


def drawn(plots: Mapping[str, Sequence[Point]]) -> str:
    """An SVG with the plots in two rows."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {2 * HEIGHT}" width="{2 * WIDTH}" '
        f'height="{2 * HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{2 * WIDTH}" height="{2 * HEIGHT}" fill="white"/>',
    ]
    for index, (name, points) in enumerate(plots.items()):
        parts.append(f'<g transform="translate({index % 2 * WIDTH} {index // 2 * HEIGHT})">{_panel(name, points)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(name: str, points: Sequence[Point]) -> str:
    right, bottom = WIDTH - LEFT, HEIGHT - 38
    most = max(at for at, _, _ in points)
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}V{TOP}" fill="none" stroke="#999"/>']
    for column, (colour, dashes, unit) in enumerate((("#0b62a4", "", "ms"), ("#b34700", "5 3", "MB")), start=1):
        top = max(max(values[column] for values in points), 1e-9)
        places = [
            (LEFT + (right - LEFT) * values[0] / most, bottom - (bottom - TOP) * max(values[column], 0) / top)
            for values in points
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in places]
        edge, anchor = (LEFT - 4, "end") if column == 1 else (right + 4, "start")
        parts.append(f'<text x="{edge}" y="{TOP + 4}" fill="{colour}" text-anchor="{anchor}">{top:.3g}</text>')
        parts.append(f'<text x="{edge}" y="{bottom}" fill="{colour}" text-anchor="{anchor}">0 {unit}</text>')
    for at, _, _ in points:
        x = LEFT + (right - LEFT) * at / most
        parts.append(f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" fill="#333">{at:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{bottom + 29}" text-anchor="middle" fill="#111">{name}</text>')
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("docs/pages/cost.svg"))
    options = parser.parse_args()
    options.out.write_text(drawn(measure(options.repeats)))
    print(options.out)


if __name__ == "__main__":
    main()
