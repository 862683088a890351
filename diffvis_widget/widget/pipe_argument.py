"""What a widget can be made of: a pipeline, the name of one, or a recorded run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget.widget.session.sampling import check_call
from diffvis_widget.wire.trace_messages import recorded_settings

from . import trait_types as fields

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


def check_source(pipe: Any, arguments: dict[str, Any]) -> Trace | None:
    """The trace, if ``pipe`` is one; TypeError or ValueError for what can be neither run nor shown."""
    from diffvis_widget.traces import Trace

    if pipe is None or (isinstance(pipe, str) and pipe):
        check_call(None, arguments)
        return None
    if isinstance(pipe, Trace):
        if arguments:
            raise TypeError(
                f"a recorded run takes no argument {', '.join(arguments)}: there is no pipeline to give it to"
            )
        return pipe
    if not callable(pipe) or not hasattr(pipe, "scheduler"):
        raise TypeError(
            "pipe must be a diffusers pipeline, the name of one, None for the built-in scenes model, or a Trace; "
            f"got {fields.shorten(pipe)}"
        )
    from diffvis_widget.tracer import Tracer

    check_call(pipe, arguments)
    Tracer(pipe)
    return None


def traits_of(trace: Trace) -> dict[str, Any]:
    """The traits that a widget has which shows ``trace``."""
    settings = recorded_settings(trace)
    found: dict[str, Any] = {"prompt": settings.prompt[: fields.MAX_TEXT], "steps": min(max(settings.steps, 1), 1000)}
    if settings.weights:
        found["weights"] = settings.weights
    if settings.negative_prompt:
        found["negative_prompt"] = settings.negative_prompt[: fields.MAX_TEXT]
    if settings.seed is not None and 0 <= settings.seed <= fields.MAX_SEED:
        found["seed"] = settings.seed
    if settings.guidance_scale is not None and 0 <= settings.guidance_scale <= 1000:
        found["guidance_scale"] = settings.guidance_scale
    return found
