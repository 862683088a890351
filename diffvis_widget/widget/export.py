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
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from PIL import Image

from diffvis_widget.traces.file import write_whole
from diffvis_widget.traces.lookup import pick_words
from diffvis_widget.widget.figure import VIEWS, Looked, View, figure, number, paint, tiles
from diffvis_widget.widget.film import film

if TYPE_CHECKING:
    from diffvis_widget.traces import Saliency, Trace

__all__ = ["Motion", "code", "csv", "filmstrip", "gif", "mp4", "png", "webp"]

PathLike = str | os.PathLike[str]
Words = str | int | Sequence[str | int]
Animated = Literal["webp", "gif", "mp4"]
MAX_SIZE = 4096


def png(
    trace: Trace,
    path: PathLike | None = None,
    *,
    step: int | None = None,
    words: Words = (),
    view: View = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    saliency: Saliency | None = None,
    opacity: float = 0.65,
    size: int = 512,
    caption: bool | str = True,
) -> bytes:
    """A figure of one step as PNG: the picture, heat maps over it, their colour bars, a caption.

    step: its index; None is the final picture, with maps that are the mean over steps. words: whose heat maps lie over
    the picture, as for `Trace.heat_map`; one comes in viridis, several each in a colour of its own. view: what the
    picture is: "prediction", "latents" (the noisy ones), "guidance", or "change" (what the step changed). layer, head:
    as for `Trace.heat_map`. saliency: a map of `dv.explain` in place of words. opacity: 0..1, of the heat maps.
    size: pixels on the longest side of the picture, 32 to 4096. caption: a text of your own, or False for none.

    Raises KeyError for a word, IndexError for a step, ValueError for anything else that cannot be; OSError where the
    file cannot be written.
    """
    looked = _looked(trace, step, words, view, layer, head, saliency, opacity)
    text = caption if isinstance(caption, str) else _caption(trace, looked) if caption else ""
    return _written(_png(figure(trace, looked, _size(size), text)), path)


def filmstrip(
    trace: Trace,
    path: PathLike | None = None,
    *,
    words: Words = (),
    view: View = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    opacity: float = 0.65,
    steps: Sequence[int] | None = None,
    columns: int | None = None,
    size: int = 96,
) -> bytes:
    """The steps side by side as PNG, each with its number. Arguments as for `png`.

    steps: the indices to show; None shows all. columns: pictures in a row; None makes rows of at most ten, all alike.
    """
    chosen = list(range(len(trace.steps))) if steps is None else list(steps)
    if not chosen or (columns is not None and columns < 1):
        raise ValueError("steps must name at least one step, and columns be at least 1")
    rows = -(-len(chosen) // 10)
    columns = columns or -(-len(chosen) // rows)
    images = list(_painted(trace, chosen, size, words, view, layer, head, opacity))
    labels = [str(step % len(trace.steps) + 1) for step in chosen]
    return _written(_png(tiles(images, labels, columns)), path)


class Motion(TypedDict, total=False):
    """How an animation is made; all but fps and hold are as for `png`.

    fps: steps a second, 0.1 to 60, by default 8. hold: seconds that the last step stays, 0 to 60, by default 1.
    """

    words: Words
    view: View
    layer: str | int | None
    head: int | None
    opacity: float
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
        table.writerow([index, step.timestep, step.sigma, *scores.null[index].tolist(), *values])
    return _written(text.getvalue().encode(), path)


def _plain(name: str) -> str:
    """A cell that a spreadsheet takes for text: one that begins like a formula would be run."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name


def code(
    trace: Trace,
    *,
    step: int | None = None,
    words: Words = (),
    view: View = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    opacity: float = 0.65,
    size: int = 512,
    file: PathLike | None = None,
    out: str = "view.png",
) -> str:
    """The Python that makes the same picture as `png` with these arguments, as text.

    file: where the trace is saved; the code then opens it. Without one it makes the run again, which needs its seed
    and gives the same picture on the same machine; for a model other than the built-in one a line is left for you to
    fill in. out: the name of the file that the code writes.

    Raises what `png` raises, and ValueError for a run that cannot be made again: its seed is not known, or it looked
    where another run did.
    """
    looked = _looked(trace, step, words, view, layer, head, None, opacity)
    given: dict[str, Any] = {
        "step": looked.step,
        "words": list(looked.words) or None,
        "view": None if looked.view == "prediction" else looked.view,
        "layer": looked.layer,
        "head": looked.head,
        "opacity": None if opacity == 0.65 else opacity,
        "size": None if _size(size) == 512 else size,
    }
    arguments = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    return f"{source(trace, file)}dv.export.png({', '.join(['trace', repr(out), *arguments])})\n"


def source(trace: Trace, file: PathLike | None = None) -> str:
    """The Python that gives this trace; see `code`, whose beginning it is."""
    lines = ["import diffvis_widget as dv", ""]
    lines += _run_again(trace) if file is None else [f"trace = dv.open_trace({os.fspath(file)!r})"]
    return "\n".join(lines) + "\n"


def _run_again(trace: Trace) -> list[str]:
    from diffvis_widget import scenes

    meta = trace.meta
    if not isinstance(meta.get("seed"), int):
        raise ValueError("the seed of this run is not known, so it cannot be made again: give file=, where it is saved")
    ours = scenes.fingerprint()
    is_scenes = ours is not None and meta.get("fingerprint") == ours
    pipe = "pipe = dv.load()"
    if not is_scenes:
        pipe = (
            f"pipe = dv.load(...)  # the {meta.get('pipeline', 'pipeline')} with fingerprint {meta.get('fingerprint')}"
        )
    given: dict[str, Any] = {
        "seed": meta["seed"],
        "num_inference_steps": _asked_steps(trace),
        "guidance_scale": meta.get("guidance_scale"),
        "negative_prompt": trace.negative_prompt,
        "schedule": meta.get("schedule"),
        "schedule_strength": meta.get("schedule_strength"),
        "height": None if is_scenes else trace.image.shape[0],
        "width": None if is_scenes else trace.image.shape[1],
        "keep": None if trace.keep == "layers" else trace.keep,  # what is kept is rounded: another keep, other digits
    }
    arguments = [f"    {name}={value!r}," for name, value in given.items() if value is not None]
    if changes := _interventions(meta.get("interventions")):
        arguments.append(f"    interventions=[{', '.join(changes)}],")
    return [pipe, "trace = dv.trace(", "    pipe,", f"    {trace.prompt!r},", *arguments, ")"]


def _interventions(told: Any) -> list[str]:
    found: list[str] = []
    for one in told or []:
        match one:
            case {"kind": "weight", "word": word, "factor": factor}:
                found.append(f"dv.intervene.weight({word!r}, {factor!r}{_span(one)})")
            case {"kind": "drop", "word": word}:
                found.append(f"dv.intervene.drop({word!r}{_span(one)})")
            case {"kind": "switch", "prompt": prompt, "step": step}:
                found.append(f"dv.intervene.switch({prompt!r}, {step!r})")
            case _:
                raise ValueError("this run looked where another one did: give file=, where it is saved")
    return found


def _span(one: dict[str, Any]) -> str:
    steps = one.get("steps")
    return "" if steps in (None, [0, None]) else f", steps={tuple(steps)!r}"


def _asked_steps(trace: Trace) -> int:
    """The number of steps that was asked for; a scheduler of second order evaluates the denoiser more often."""
    planned = trace.meta.get("planned_steps")
    if not trace.is_complete and isinstance(planned, int):
        return planned
    return sum(not step.second_order for step in trace.steps)


def _looked(
    trace: Trace,
    step: int | None,
    words: Words,
    view: Any,
    layer: str | int | None,
    head: int | None,
    saliency: Saliency | None,
    opacity: float,
) -> Looked:
    count = len(trace.steps)
    if step is not None and not -count <= step < count:
        raise IndexError(f"step {step} is out of range: this trace has steps 0 to {count - 1}")
    if view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(map(repr, VIEWS))}, not {view!r}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be between 0 and 1, not {opacity!r}")
    chosen = (words,) if isinstance(words, str | int) else tuple(words)
    for word in chosen:
        pick_words(trace.words, word)
    if saliency is not None and chosen:
        raise ValueError("words and saliency are two overlays: give one of them")
    return Looked(None if step is None else step % count, chosen, view, layer, head, saliency, opacity)


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


def _painted(
    trace: Trace,
    steps: Sequence[int],
    size: int,
    words: Words = (),
    view: View = "prediction",
    layer: str | int | None = None,
    head: int | None = None,
    opacity: float = 0.65,
) -> Iterator[Image.Image]:
    side = _size(size)
    for step in steps:
        yield paint(trace, _looked(trace, step, words, view, layer, head, None, opacity), side)


def animate(
    trace: Trace,
    kind: Animated,
    tell: Callable[[float], object] = lambda share: None,
    *,
    fps: float = 8,
    hold: float = 1.0,
    size: int | None = None,
    **looked: Any,
) -> bytes:
    """What `webp`, `gif` and `mp4` make. tell: called with the share of the pictures that are painted, 0..1."""
    if not 0.1 <= fps <= 60 or not 0 <= hold <= 60:
        raise ValueError(f"fps must be between 0.1 and 60 and hold between 0 and 60 seconds, not {fps!r} and {hold!r}")
    options: dict[str, Any] = {"webp": {"quality": 85, "method": 2}, "gif": {"disposal": 1}, "mp4": {}}[kind]
    side = size or (256 if kind == "gif" else 512)

    def painted() -> Iterator[Image.Image]:
        count = len(trace.steps)
        for step, image in enumerate(_painted(trace, range(count), side, **looked)):
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


def _size(value: int) -> int:
    if not 32 <= value <= MAX_SIZE:
        raise ValueError(f"size must be between 32 and {MAX_SIZE} pixels, not {value!r}")
    return int(value)


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
