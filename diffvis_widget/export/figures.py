"""Figures, filmstrips, animations and tables of a trace, as bytes and as files.

Each function takes a trace, returns the bytes of a file, and writes them to a path where one is given: completely or
not at all. `dv.to_html` writes a page that contains everything. The Export drawer of the widget makes the same files.

    dv.export.png(trace, "circle.png", step=12, words=["circle"])
    dv.export.filmstrip(trace, "steps.png", words=["circle"])
    dv.export.webp(trace, "run.webp", fps=8)
    dv.export.csv(trace, "scores.csv")
    print(dv.export.code(trace, step=12, words=["circle"]))
"""

from __future__ import annotations

import csv as _csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from PIL import Image

from diffvis_widget.arguments import check_names, choice, count, file_path, flag, instance, items, real
from diffvis_widget.step_numbers import step_number
from diffvis_widget.traces import Trace
from diffvis_widget.traces.file.whole_file import write_bytes_whole

from .drawing import draw_view
from .layout import draw_figure, draw_filmstrip, format_number
from .missing_images import check_images
from .source_code import PathLike, code
from .video import encode_mp4
from .view_options import StepView, ViewOptions, check_size, view_of_step, views_of_frames, views_of_steps

__all__ = ["AnimationOptions", "ViewOptions", "code", "csv", "filmstrip", "gif", "mp4", "png", "webp"]

# The beginning of a formula: in the full width of East Asian letters too, and after what other locales separate by.
_FORMULA = re.compile(r"(^|[;|\t\r\n\"])(?=[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20])|^(?=[\t\r\n])")

Animation = Literal["webp", "gif", "mp4"]


def png(
    trace: Trace,
    path: PathLike | None = None,
    *,
    step: int | None = None,
    size: int = 512,
    caption: bool | str = True,
    **options: Unpack[ViewOptions],
) -> bytes:
    """A figure of one step as PNG: the image with its overlays, colour bars and a caption.

    Args:
        trace: The trace.
        path: The file to write.
        step: Index of the step; None for the final image with maps averaged over the steps.
        size: Pixels on the longest side of the image, 32 to 4096.
        caption: True for the prompt and the settings, False for none, or a text.
        **options: See `ViewOptions`: words, view, layer, head, saliency, opacity, contours, shared_scale, region.

    Returns:
        The bytes of the file.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: The step is out of range.
        ValueError: An option is out of range, or there is no predicted image to show: its noise level is not known.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.export.png(trace, step=1, words=["circle"])[1:4]
        b'PNG'
    """
    target = _target(path, ".png")
    view = view_of_step(trace, step, **options)
    check_images(trace, [view])
    if not isinstance(caption, str):
        caption = _default_caption(trace, view) if flag("caption", caption) else ""
    return _write(_encode_png(draw_figure(trace, view, check_size(size), caption)), target)


def filmstrip(
    trace: Trace,
    path: PathLike | None = None,
    *,
    steps: Sequence[int] | None = None,
    columns: int | None = None,
    size: int = 96,
    **options: Unpack[ViewOptions],
) -> bytes:
    """The steps side by side as PNG, each with its number, and a legend of the colours below.

    Args:
        trace: The trace.
        path: The file to write.
        steps: Indices of the steps; None for all.
        columns: Images in a row; None for rows of equal length, of at most ten.
        size: Pixels on the longest side of each image, 32 to 4096.
        **options: See `ViewOptions`.

    Returns:
        The bytes of the file.

    Raises:
        KeyError: A word is not in the prompt.
        IndexError: A step is out of range.
        ValueError: An option is out of range, or there is no predicted image to show: its noise level is not known.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.export.filmstrip(trace, words="circle")[1:4]
        b'PNG'
    """
    target = _target(path, ".png")
    instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it")
    chosen = range(len(trace.steps)) if steps is None else items("steps", steps, "a list of indices of steps")
    if not chosen:
        raise ValueError("steps must name at least one step")
    rows = -(-len(chosen) // 10)
    columns = -(-len(chosen) // rows) if columns is None else count("columns", columns, 1, 1000)
    views = list(views_of_steps(trace, chosen, **options))
    check_images(trace, views)
    return _write(_encode_png(draw_filmstrip(trace, views, columns, check_size(size))), target)


class AnimationOptions(ViewOptions, total=False):
    """Keyword arguments of an animation, besides those of `ViewOptions`. All are optional.

    Attributes:
        over: "steps", or "frames" of a video; the frames by default, where there are any.
        step: With "frames": index of the step whose predicted video is shown; None for the final one, with maps
            averaged over the steps.
        fps: Images per second, 0.1 to 60; by default 8 steps, or 16 frames.
        hold: Seconds for which the last image stays, 0 to 60; by default 1 for steps, 0 for frames.
        size: Pixels on the longest side, 32 to 4096; 512 by default, 256 for a GIF.
    """

    over: Literal["steps", "frames"] | None
    step: int | None
    fps: float | None
    hold: float | None
    size: int | None


def webp(trace: Trace, path: PathLike | None = None, **options: Unpack[AnimationOptions]) -> bytes:
    """All steps as an animated WebP, which repeats; of a video, all frames with their maps.

    Args:
        trace: The trace.
        path: The file to write.
        **options: See `AnimationOptions`.

    Returns:
        The bytes of the file.

    Raises:
        KeyError: A word is not in the prompt.
        ValueError: An option is out of range, or there is no predicted image to show: its noise level is not known.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.export.webp(trace, fps=4, size=96)[8:12]
        b'WEBP'
    """
    target = _target(path, ".webp")
    return _write(_animation(trace, "webp", options), target)


def gif(trace: Trace, path: PathLike | None = None, **options: Unpack[AnimationOptions]) -> bytes:
    """All steps, or frames of a video, as an animated GIF with 256 colours, for programs that show nothing newer.

    Args:
        trace: The trace.
        path: The file to write.
        **options: See `AnimationOptions`.

    Returns:
        The bytes of the file.

    Raises:
        KeyError: A word is not in the prompt.
        ValueError: An option is out of range, or there is no predicted image to show: its noise level is not known.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.export.gif(trace, size=96)[:3]
        b'GIF'
    """
    target = _target(path, ".gif")
    return _write(_animation(trace, "gif", options), target)


def mp4(trace: Trace, path: PathLike | None = None, **options: Unpack[AnimationOptions]) -> bytes:
    """All steps as an MP4 video (H.264), for slides and players; it does not repeat by itself.

    It needs ffmpeg: that of the machine, or the one that ``pip install "diffvis-widget[film]"`` brings.

    Args:
        trace: The trace.
        path: The file to write.
        **options: See `AnimationOptions`.

    Returns:
        The bytes of the file.

    Raises:
        RuntimeError: There is no ffmpeg, or it failed.
        KeyError: A word is not in the prompt.
        ValueError: An option is out of range, or there is no predicted image to show: its noise level is not known.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.export.mp4(trace, size=96)[4:8]  # doctest: +SKIP
        b'ftyp'
    """
    target = _target(path, ".mp4", ".m4v")
    return _write(_animation(trace, "mp4", options), target)


def csv(trace: Trace, path: PathLike | None = None) -> bytes:
    """The concept scores as a table in CSV: UTF-8, with a header and one row per step.

    The columns are step (from 1), timestep, sigma, null_5 and null_95 (the band of unrelated words), and the cosine and
    the share of each concept.

    Args:
        trace: The trace.
        path: The file to write.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: The trace has no scores.
        OSError: The file cannot be written.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> trace.scores = dv.concept_scores(trace, ["circle"])
        >>> dv.export.csv(trace).decode().splitlines()[0]
        'step,timestep,sigma,null_5,null_95,circle cosine,circle share'
    """
    target = _target(path, ".csv", ".txt")
    scores = instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it").scores
    if scores is None:
        raise ValueError("this trace has no scores: trace.scores = dv.concept_scores(trace, [...])")
    text = io.StringIO()
    table = _csv.writer(text)
    names = [f"{concept} {measure}" for concept in scores.concepts for measure in ("cosine", "share")]
    table.writerow([_plain_cell(name) for name in ("step", "timestep", "sigma", "null_5", "null_95", *names)])
    for index, step in enumerate(trace.steps):
        pairs = zip(scores.cosine[index].tolist(), scores.share[index].tolist(), strict=True)
        values = [value for pair in pairs for value in pair]
        table.writerow([step_number(index), step.timestep, step.sigma, *scores.null_band[index].tolist(), *values])
    return _write(text.getvalue().encode(), target)


def _target(path: PathLike | None, *suffixes: str) -> Path | None:
    return None if path is None else file_path("path", path, *suffixes)


def _animation(trace: Trace, kind: Animation, options: Any) -> bytes:
    """Encode an animation; an option that does not exist is refused by name."""
    instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it")
    check_names(f"dv.export.{kind}", options, (*AnimationOptions.__annotations__, *ViewOptions.__annotations__))
    return animate(trace, kind, **options)


def _plain_cell(name: str) -> str:
    """A cell that a spreadsheet takes for text: it would execute one that begins like a formula."""
    return _FORMULA.sub(r"\1'", name)


def _default_caption(trace: Trace, view: StepView) -> str:
    parts: list[str] = []
    if view.step is None:
        mean = f", maps averaged over {len(trace.steps)} steps" if view.words else ""
        parts.append(f"final image{mean}")
    else:
        step = trace.steps[view.step]
        level = "unknown" if math.isnan(step.sigma) else "infinite"
        sigma = format_number(step.sigma) if math.isfinite(step.sigma) else level
        parts.append(f"step {step_number(view.step)} / {len(trace.steps)}, t = {step.timestep:g}, sigma = {sigma}")
    for name, label in (("seed", "seed"), ("guidance_scale", "guidance")):
        if isinstance(value := trace.meta.get(name), int | float):
            parts.append(f"{label} {value:g}" if isinstance(value, float) else f"{label} {value}")
    return f"“{trace.prompt}”\n{', '.join(parts)}"


def animate(
    trace: Trace,
    file_format: Animation,
    progress: Callable[[float], object] = lambda share: None,
    *,
    over: Literal["steps", "frames"] | None = None,
    step: int | None = None,
    fps: float | None = None,
    hold: float | None = None,
    size: int | None = None,
    **options: Unpack[ViewOptions],
) -> bytes:
    """Encode an animation of all steps, or of all frames; see `webp`, `gif` and `mp4`.

    Args:
        trace: The trace.
        file_format: Of the file.
        progress: Called after each image with the share of the images that are drawn, 0..1.
        over: "steps", "frames", or None; see `AnimationOptions`.
        step: With "frames": index of the step, or None.
        fps: Images per second, 0.1 to 60; None for the default.
        hold: Seconds for which the last image stays, 0 to 60; None for the default.
        size: Pixels on the longest side; None for 512, of a GIF 256.
        **options: See `ViewOptions`.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: An option is out of range.
        RuntimeError: There is no ffmpeg for MP4, or it failed.
    """
    over = ("steps" if trace.frame_count == 1 else "frames") if over is None else over
    is_film = choice("over", over, ("steps", "frames")) == "frames"
    if step is not None and not is_film:
        raise ValueError('step chooses the step of an animation over="frames"; over the steps there is none to choose')
    fps = real("fps", (16 if is_film else 8) if fps is None else fps, 0.1, 60)
    hold = real("hold", (0 if is_film else 1) if hold is None else hold, 0, 60)
    encoding: dict[str, Any] = {"webp": {"quality": 85, "method": 2}, "gif": {"disposal": 1}, "mp4": {}}[file_format]
    side = check_size((256 if file_format == "gif" else 512) if size is None else size)

    if is_film:
        views = views_of_frames(trace, step, **options)
    else:
        views = list(views_of_steps(trace, range(len(trace.steps)), **options))
    check_images(trace, views)

    def frames() -> Iterator[Image.Image]:
        for number, view in enumerate(views, start=1):
            image = draw_view(trace, view, side)
            progress(number / len(views))
            yield image

    if file_format == "mp4":
        return encode_mp4(frames(), fps, round(hold * fps))
    first, *others = frames()
    duration = round(1000 / fps)
    durations = [duration] * len(others) + [duration + round(1000 * hold)]
    buffer = io.BytesIO()
    first.save(buffer, file_format.upper(), save_all=True, append_images=others, duration=durations, loop=0, **encoding)
    return buffer.getvalue()


def _encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write(data: bytes, path: Path | None) -> bytes:
    if path is not None:
        write_bytes_whole(path, data)
    return data
