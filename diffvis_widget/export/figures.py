"""What is seen, as files: figures, filmstrips, animations, tables, and the Python that makes the same again.

Every function takes a trace first and gives the bytes of a file; with a path it also writes them there, whole or not at
all. `dv.to_html` writes the page with everything in it. The drawer Export of the widget offers all of it too.

    dv.export.png(trace, "circle.png", step=12, words=["circle"])
    dv.export.filmstrip(trace, "steps.png", words=["circle"])
    dv.export.webp(trace, "run.webp", fps=8)
    dv.export.csv(trace, "scores.csv")
    print(dv.export.code(trace, step=12, words=["circle"]))
"""

from __future__ import annotations

import csv as _csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from PIL import Image

from diffvis_widget.traces.file.reader import write_whole

from .drawing import figure, number, paint, strip
from .source_code import PathLike, code
from .video import film
from .view_options import Looked, Shown, checked_size, look, looks

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

__all__ = ["Motion", "Shown", "code", "csv", "filmstrip", "gif", "mp4", "png", "webp"]

Animated = Literal["webp", "gif", "mp4"]


def png(
    trace: Trace,
    path: PathLike | None = None,
    *,
    step: int | None = None,
    size: int = 512,
    caption: bool | str = True,
    **shown: Unpack[Shown],
) -> bytes:
    """A figure of one step as PNG: the picture, what lies over it, the colour bars of that, a caption.

    step: its index; None is the final picture, with maps that are the mean over steps. size: pixels on the longest side
    of the picture, 32 to 4096. caption: a text of your own, or False for none. All else is what `Shown` says: words,
    view, layer, head, saliency, opacity, contours, shared, region.

    Raises KeyError for a word, IndexError for a step, ValueError for anything else that cannot be; OSError where the
    file cannot be written.
    """
    looked = look(trace, step, **shown)
    text = caption if isinstance(caption, str) else _caption(trace, looked) if caption else ""
    return _written(_png(figure(trace, looked, checked_size(size), text)), path)


def filmstrip(
    trace: Trace,
    path: PathLike | None = None,
    *,
    steps: Sequence[int] | None = None,
    columns: int | None = None,
    size: int = 96,
    **shown: Unpack[Shown],
) -> bytes:
    """The steps side by side as PNG, each with its number, and below what their colours mean.

    steps: the indices to show; None shows all. columns: pictures in a row; None makes rows of at most ten, all alike.
    size: as for `png`, of each picture. All else is what `Shown` says. Raises what `png` raises.
    """
    chosen = list(range(len(trace.steps))) if steps is None else list(steps)
    if not chosen or (columns is not None and columns < 1):
        raise ValueError("steps must name at least one step, and columns be at least 1")
    rows = -(-len(chosen) // 10)
    columns = columns or -(-len(chosen) // rows)
    return _written(_png(strip(trace, list(looks(trace, chosen, **shown)), columns, checked_size(size))), path)


class Motion(Shown, total=False):
    """How an animation is made, besides what `Shown` says.

    fps: steps a second, 0.1 to 60, by default 8. hold: seconds that the last step stays, 0 to 60, by default 1.
    size: as for `png`, by default 512, of a GIF 256.
    """

    fps: float
    hold: float
    size: int


def webp(trace: Trace, path: PathLike | None = None, **motion: Unpack[Motion]) -> bytes:
    """All steps as an animated WebP that repeats, 512 pixels large; see `Motion` for the arguments.

    Raises what `png` raises.
    """
    return _written(animate(trace, "webp", **motion), path)


def gif(trace: Trace, path: PathLike | None = None, **motion: Unpack[Motion]) -> bytes:
    """As `webp`, for readers that show nothing newer: 256 colours, and 256 pixels large unless ``size`` says more."""
    return _written(animate(trace, "gif", **motion), path)


def mp4(trace: Trace, path: PathLike | None = None, **motion: Unpack[Motion]) -> bytes:
    """As `webp`, as a film: H.264 in MP4, for slides and players. It does not repeat by itself.

    Needs ffmpeg: that of the machine, or the one that ``pip install "diffvis-widget[film]"`` brings. Raises
    RuntimeError where there is none, and what `png` raises.
    """
    return _written(animate(trace, "mp4", **motion), path)


def csv(trace: Trace, path: PathLike | None = None) -> bytes:
    """The concept scores as a table, UTF-8 with a header: a row for each step.

    Columns: step (from 0), timestep, sigma, null_5 and null_95 (the band of unrelated words), and the cosine and the
    share of every concept. Raises ValueError for a trace without scores.
    """
    scores = trace.scores
    if scores is None:
        raise ValueError("this trace has no scores: trace.scores = dv.concept_scores(trace, [...])")
    text = io.StringIO()
    table = _csv.writer(text)
    names = [f"{concept} {what}" for concept in scores.concepts for what in ("cosine", "share")]
    table.writerow([_plain(name) for name in ("step", "timestep", "sigma", "null_5", "null_95", *names)])
    for index, step in enumerate(trace.steps):
        pairs = zip(scores.cosine[index].tolist(), scores.share[index].tolist(), strict=True)
        values = [value for pair in pairs for value in pair]
        table.writerow([index, step.timestep, step.sigma, *scores.null_band[index].tolist(), *values])
    return _written(text.getvalue().encode(), path)


def _plain(name: str) -> str:
    """A cell that a spreadsheet takes for text: one that begins like a formula would be run."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def _caption(trace: Trace, looked: Looked) -> str:
    parts: list[str] = []
    if looked.step is None:
        mean = f", maps are the mean over {len(trace.steps)} steps" if looked.words else ""
        parts.append(f"final picture{mean}")
    else:
        step = trace.steps[looked.step]
        parts.append(
            f"step {looked.step + 1} / {len(trace.steps)}, t = {step.timestep:g}, sigma = {number(step.sigma)}"
        )
    for name, label in (("seed", "seed"), ("guidance_scale", "guidance")):
        if isinstance(value := trace.meta.get(name), int | float):
            parts.append(f"{label} {value:g}" if isinstance(value, float) else f"{label} {value}")
    return f"“{trace.prompt}”\n{', '.join(parts)}"


def animate(
    trace: Trace,
    kind: Animated,
    tell: Callable[[float], object] = lambda share: None,
    *,
    fps: float = 8,
    hold: float = 1.0,
    size: int | None = None,
    **shown: Unpack[Shown],
) -> bytes:
    """What `webp`, `gif` and `mp4` make. tell: called with the share of the pictures that are painted, 0..1."""
    if not 0.1 <= fps <= 60 or not 0 <= hold <= 60:
        raise ValueError(f"fps must be between 0.1 and 60 and hold between 0 and 60 seconds, not {fps!r} and {hold!r}")
    options: dict[str, Any] = {"webp": {"quality": 85, "method": 2}, "gif": {"disposal": 1}, "mp4": {}}[kind]
    side = checked_size(size or (256 if kind == "gif" else 512))

    def painted() -> Iterator[Image.Image]:
        count = len(trace.steps)
        for step, looked in enumerate(looks(trace, range(count), **shown)):
            image = paint(trace, looked, side)
            tell((step + 1) / count)
            yield image

    if kind == "mp4":
        return film(painted(), fps, round(hold * fps))
    first, *others = painted()
    pace = round(1000 / fps)
    durations = [pace] * len(others) + [pace + round(1000 * hold)]
    buffer = io.BytesIO()
    first.save(buffer, kind.upper(), save_all=True, append_images=others, duration=durations, loop=0, **options)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _written(data: bytes, path: PathLike | None) -> bytes:
    if path is not None:
        target = Path(path)
        if not target.parent.is_dir():
            raise FileNotFoundError(f"cannot write {target}: the folder {target.parent} does not exist")

        def write(name: str) -> None:
            Path(name).write_bytes(data)

        write_whole(target, len(data), write)
    return data
