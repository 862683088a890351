"""Images that a user drops on the page: checked, fitted to the model, and traced as a run."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageOps

from diffvis_widget.arguments import shorten
from diffvis_widget.call_defaults import call_parameters
from diffvis_widget.traces.prompt_words import occurs
from diffvis_widget.traces.types import Size
from diffvis_widget.widget.session.jobs import JobFunction, JobResult, ReportProgress, Task
from diffvis_widget.widget.session.run import Run
from diffvis_widget.wire import images
from diffvis_widget.wire.packed_run import Message, RequestId
from diffvis_widget.wire.recorded_run import run_payload

if TYPE_CHECKING:
    from diffvis_widget.widget.session.session import Session

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = 4096
MAX_LEVELS = 16
MAX_PROMPT = 10_000
SEED = 0
SHOWN = 256  # pixels of the longer side of the image in the drawer


def take_image(session: Session, request: RequestId, data: str) -> Message:
    """Take an image for the next job "image", in place of the one before.

    Args:
        session: the session of the widget.
        request: the id of the request.
        data: the file, PNG, JPEG or WebP, as base64.

    Returns:
        The reply: the key of the image for the job, its size as the model will see it, and the image as a buffer.

    Raises:
        ValueError: there is no pipeline, or this is no image of at most 4096 x 4096 pixels.
    """
    height, width = image_size(_pipe(session), session.arguments)
    image = ImageOps.fit(_decoded(data), (width, height), Image.Resampling.BICUBIC)
    key = hashlib.sha256(image.tobytes()).hexdigest()[:32]
    session.jobs.put_input(key, image)
    content = {"type": "image", "id": request, "image": key, "height": height, "width": width}
    return Message(content, (images.webp(np.asarray(image), SHOWN),))


def prepare_image(session: Session, task: Task) -> JobFunction:
    """Prepare the job that traces an image and shows it as a run, which the history keeps.

    Args:
        session: the session of the widget.
        task: ``image`` is the key that `take_image` returned, ``prompt`` a text, ``levels`` a list of timesteps.

    Returns:
        The job, which gives the id of the run.

    Raises:
        ValueError: there is no pipeline, the image is not stored, or a field is invalid.
    """
    pipe = _pipe(session)
    image = session.jobs.input_of(task.get("image"))
    if image is None:
        raise ValueError("the kernel does not have this image any more: drop it again")
    prompt, levels = _prompt(task.get("prompt")), _levels(task.get("levels"))

    def perform(report: ReportProgress) -> JobResult:
        from diffvis_widget import scenes
        from diffvis_widget.tracer import trace_image
        from diffvis_widget.tracer.concept_encoding import traceable_concepts

        is_scenes = scenes.is_scenes(pipe)
        outside = [word for word in session.publisher.scorer.concepts if not occurs(word, prompt)]
        arguments = {name: value for name, value in session.arguments.items() if name not in ("height", "width")}
        if "guidance_scale" in call_parameters(pipe):
            arguments["guidance_scale"] = 1.0  # the prediction is what the model sees, not what guidance makes of it

        def step_ended(_: Any, step: int, *__: Any) -> dict[str, Any]:
            report((step + 1) / (len(levels) + 1))
            return {}

        trace = trace_image(
            pipe,
            np.asarray(image),
            prompt,
            timesteps=levels,
            concepts=traceable_concepts(pipe, outside),
            seed=SEED,
            keep="heads" if is_scenes else "layers",
            callback_on_step_end=step_ended,
            **arguments,
        )
        run = Run(None, trace=trace, state="done")
        unknown = scenes.unknown_words(prompt) if is_scenes else ()
        run.payload = run_payload(run.id, trace, unknown, session.publisher.scorer.label)
        session.history.add(run)
        session.show(run)
        return JobResult({"run": run.id})

    return perform


def image_size(pipe: Any, arguments: Mapping[str, Any]) -> Size:
    """The size of the images that a pipeline makes.

    Args:
        pipe: the pipeline.
        arguments: arguments of every call; its height and width count more than the pipeline's own.

    Returns:
        Height and width in pixels.

    Raises:
        ValueError: the pipeline does not state it.
    """
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    cells = getattr(pipe, "default_sample_size", None) or getattr(
        getattr(denoiser, "config", None), "sample_size", None
    )
    side = cells * int(getattr(pipe, "vae_scale_factor", 8)) if isinstance(cells, int) else None
    height, width = arguments.get("height") or side, arguments.get("width") or side
    if not isinstance(height, int) or not isinstance(width, int):
        raise ValueError(
            f"{type(pipe).__name__} does not tell the size of its images: give it, as in "
            "DiffVis(pipe, height=512, width=512)"
        )
    return height, width


def _pipe(session: Session) -> Any:
    if session.pipe is None:
        raise ValueError(
            "tracing an image needs the pipeline, which is not loaded, or which a recorded run does not have"
        )
    return session.pipe


def _decoded(data: str) -> Image.Image:
    try:
        content = base64.b64decode(data, validate=True)
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (binascii.Error, ValueError, OSError):
        raise ValueError("this file is no image: drop a PNG, a JPEG or a WebP") from None
    if max(image.size) > MAX_SIDE:
        raise ValueError(f"the image has {image.width} x {image.height} pixels; at most {MAX_SIDE} x {MAX_SIDE} work")
    try:
        return image.convert("RGB")
    except (ValueError, OSError, SyntaxError):
        raise ValueError("this image is damaged and cannot be decoded") from None


def _prompt(prompt: object) -> str:
    if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
        raise ValueError(f"prompt must be a text of at most {MAX_PROMPT} characters, not {shorten(prompt)}")
    return prompt


def _levels(levels: object) -> Sequence[int]:
    values = cast("list[object]", levels) if isinstance(levels, list) else []
    if not 1 <= len(values) <= MAX_LEVELS or not all(type(level) is int for level in values):
        raise ValueError(f"levels must be 1 to {MAX_LEVELS} whole numbers, such as [500], not {shorten(levels)}")
    return cast("list[int]", values)
