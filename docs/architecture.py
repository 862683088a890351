"""Draws the packages of diffvis_widget and what they import, as docs/pages/architecture.svg.

Run `python -m docs.architecture`. The image is read from the code: every import counts, those inside functions and
`TYPE_CHECKING` blocks too. A package stands above all that it imports. An arrow that follows from others is left out.
"""

from __future__ import annotations

import ast
import html
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "diffvis_widget"
IMAGE = ROOT / "docs" / "pages" / "architecture.svg"

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 196, 88, 28, 56, 24

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2933; }
text.name { font-weight: 600; font-size: 14px; }
text.inside { fill: #3b6ea5; font-size: 11px; }
rect { fill: #f4f6f9; stroke: #8a97a8; }
path { fill: none; stroke: #8a97a8; stroke-width: 1.2; }
path.messages { stroke-dasharray: 5 4; }
marker path { fill: #8a97a8; stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e3e8ee; } text.inside { fill: #9cc3ee; } rect { fill: #202830; stroke: #6b7a8c; }
}
"""

Graph = dict[str, set[str]]


def packages() -> Graph:
    """The imports among the packages and top-level modules: name -> names that it imports.

    A file that imports the package itself, as a user does, counts as importing all that `__init__` offers.
    """
    graph: Graph = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.relative_to(PACKAGE).with_suffix("").parts[0]
        targets = graph.setdefault(source, set())
        for name in _imports(path):
            package, *parts = name.split(".")
            if package == "diffvis_widget":
                targets.add(parts[0] if parts else "__init__")
    public = graph.pop("__init__")
    expanded = {name: targets | (public if "__init__" in targets else set()) for name, targets in graph.items()}
    return {name: (targets & graph.keys()) - {name} for name, targets in expanded.items()}


def reduced(graph: Graph) -> Graph:
    """The graph without the edges that follow from others. `graph` must have no circle."""

    def below(name: str) -> set[str]:
        return graph[name].union(*(below(target) for target in graph[name]))

    return {
        name: {target for target in targets if not any(target in below(other) for other in targets)}
        for name, targets in graph.items()
    }


def levels(graph: Graph) -> list[list[str]]:
    """The names by height: the first row imports nothing, each other row only rows before it."""
    height: dict[str, int] = {}

    def measure(name: str, path: tuple[str, ...] = ()) -> int:
        if name in path:
            raise ValueError(f"The packages import each other in a circle: {' -> '.join([*path, name])}")
        if name not in height:
            height[name] = 1 + max((measure(target, (*path, name)) for target in graph[name]), default=-1)
        return height[name]

    for name in graph:
        measure(name)
    return [sorted(name for name in graph if height[name] == row) for row in range(max(height.values()) + 1)]


def draw(graph: Graph) -> str:
    """The image as SVG text; each arrow carries the two names as `data-from` and `data-to`."""
    rows, arrows = _arranged(levels(graph), reduced(graph)), reduced(graph)
    columns = max(map(len, rows))
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X
    height = 2 * MARGIN + len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y
    place: dict[str, tuple[float, float]] = {}
    for row, names in enumerate(rows):
        left = (width - len(names) * WIDTH - (len(names) - 1) * GAP_X) / 2
        for column, name in enumerate(names):
            place[name] = (left + column * (WIDTH + GAP_X), height - MARGIN - HEIGHT - row * (HEIGHT + GAP_Y))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-label="The packages of diffvis_widget and what each imports">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker></defs>',
    ]
    for name in graph:
        lines += [
            _arrow(place[name], place[target], f'data-from="{name}" data-to="{target}"')
            for target in sorted(arrows[name])
        ]
    page = (MARGIN, place["widget"][1])  # beside the package that it talks to
    y = page[1] + HEIGHT / 2
    lines.append(f'<path class="messages" d="M{page[0] + 2 * WIDTH:.0f} {y:.0f}H{place["widget"][0]:.0f}"/>')
    for name, corner in place.items():
        lines += _box(corner, WIDTH, name, _summary(name), _inside(PACKAGE / name, "*.py"))
    lines += _box(
        page, WIDTH * 2, "js/src", "The page in the browser. It exchanges messages with the widget", _folders()
    )
    return "\n".join([*lines, "</svg>", ""])


def _imports(path: Path) -> Iterator[str]:
    """The absolute dotted name of every import in the file."""
    package = ["diffvis_widget", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _arranged(rows: list[list[str]], arrows: Graph) -> list[list[str]]:
    """The rows, each ordered by the mean position of what its boxes import, so that fewer arrows cross."""
    position: dict[str, float] = {}

    def mean_position(name: str) -> float:
        targets = arrows[name]
        return sum(position[target] for target in targets) / len(targets) if targets else 0.0

    arranged = []
    for names in rows:
        ordered = sorted(names, key=mean_position)
        position |= {name: (column + 0.5) / len(ordered) for column, name in enumerate(ordered)}
        arranged.append(ordered)
    return arranged


def _summary(name: str) -> str:
    """The first sentence of the package's or module's docstring."""
    path = PACKAGE / name / "__init__.py"
    docstring = ast.get_docstring(ast.parse((path if path.is_file() else PACKAGE / f"{name}.py").read_text("utf-8")))
    sentence = (docstring or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    return sentence.split(". ")[0].split(": ")[0].rstrip(".")


def _inside(folder: Path, pattern: str) -> str:
    """The names of the packages inside the folder."""
    return "  ".join(sorted(path.name for path in folder.glob("*/") if any(path.glob(pattern))))


def _folders() -> str:
    return "  ".join(sorted(path.name for path in (ROOT / "js" / "src").glob("*/") if any(path.rglob("*.ts*"))))


def _box(corner: tuple[float, float], width: float, name: str, summary: str, inside: str) -> list[str]:
    x, y = corner
    lines = textwrap.wrap(summary, int(width / 7), max_lines=2 if inside else 3, placeholder=" ...")
    texts = [("name", name), *(("", line) for line in lines), *([("inside", inside)] if inside else [])]
    return [
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width}" height="{HEIGHT}" rx="6"/>',
        *(
            f'<text class="{kind}" x="{x + 10:.0f}" y="{y + 21 + 18 * row:.0f}">{html.escape(text)}</text>'
            for row, (kind, text) in enumerate(texts)
        ),
    ]


def _arrow(start: tuple[float, float], end: tuple[float, float], names: str) -> str:
    x0, y0, x1, y1 = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1] - 2
    bend = GAP_Y * 0.8
    curve = f"M{x0:.0f} {y0:.0f} C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}"
    return f'<path {names} d="{curve}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    IMAGE.write_text(draw(packages()), encoding="utf-8")
