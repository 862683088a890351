"""Validates what a widget is made of: a pipeline, the name of one, or a recorded run; its meter, its comparison run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diffvis_widget.arguments import shorten
from diffvis_widget.call_defaults import SCENES, CallDefaults, call_defaults
from diffvis_widget.traces.requested_steps import requested_steps
from diffvis_widget.widget.session.sampling import check_call
from diffvis_widget.wire.messages import RunRequest
from diffvis_widget.wire.shipped_run import shipped_run
from diffvis_widget.wire.trace_messages import recorded_settings

from .trait_types import MAX_SEED, MAX_TEXT

if TYPE_CHECKING:
    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace


def check_source(pipe: Any, arguments: dict[str, Any]) -> Trace | None:
    """Refuse what can be neither run nor shown.

    Args:
        pipe: the argument ``pipe`` of DiffVis.
        arguments: the arguments for the pipeline's call, by name.

    Returns:
        The trace, if ``pipe`` is one.

    Raises:
        TypeError: ``pipe`` is of no such type, or takes no such argument.
        ValueError: the denoiser of the pipeline cannot be read.
    """
    from diffvis_widget.traces import Trace

    if pipe is None or (isinstance(pipe, str) and pipe):
        check_call(None, arguments)
        return None
    if isinstance(pipe, Trace):
        if arguments:
            raise TypeError(
                f"a recorded run takes no argument {', '.join(arguments)}: there is no pipeline to pass it to"
            )
        return pipe
    if not callable(pipe) or not hasattr(pipe, "scheduler"):
        raise TypeError(
            "pipe must be a diffusers pipeline, the name of one, None for the built-in scenes model, or a Trace; "
            f"got {shorten(pipe)}"
        )
    from diffvis_widget.tracer import Tracer

    check_call(pipe, arguments)
    Tracer(pipe)
    return None


def known_defaults(pipe: Any) -> CallDefaults:
    """The defaults of the pipeline's call, as far as they are known before anything is loaded.

    Args:
        pipe: the argument ``pipe`` of DiffVis, which `check_source` has checked.

    Returns:
        The defaults; those of a pipeline that is still to be loaded are None.
    """
    from diffvis_widget.traces import Trace

    if pipe is None:
        return SCENES
    return CallDefaults() if isinstance(pipe, str | Trace) else call_defaults(pipe)


def shown_while_loading(
    pipe: Any, request: RunRequest, arguments: Mapping[str, Any], concepts: Sequence[str], meter: ConceptMeter | None
) -> bytes:
    """Find the recorded run that the page shows while the built-in model loads.

    It belongs into a trait: a message to the page would wait while torch is imported.

    Args:
        pipe: the argument ``pipe`` of DiffVis.
        request: what is to be run.
        arguments: further arguments for the pipeline's call.
        concepts: the concepts to measure.
        meter: the argument ``meter`` of DiffVis.

    Returns:
        The packed messages of the run; no bytes where none is recorded.
    """
    if pipe is not None or arguments:
        return b""
    return shipped_run(request, concepts if meter is None else ())


def check_compare(trace: Any) -> None:
    """Refuse what cannot be compared with a run.

    Args:
        trace: the argument ``compare`` of DiffVis.

    Raises:
        TypeError: it is neither a Trace nor None.
    """
    from diffvis_widget.traces import Trace

    if trace is not None and not isinstance(trace, Trace):
        raise TypeError(f"compare takes a Trace, as dv.trace and dv.open_trace return it; got {shorten(trace)}")


def check_layout(traits: dict[str, Any]) -> dict[str, Any]:
    """Refuse a layout with an unknown name, which ipywidgets ignores.

    Args:
        traits: traits of every Jupyter widget, by name.

    Returns:
        The traits.

    Raises:
        TypeError: the layout is a dict with a name that `ipywidgets.Layout` does not have.
    """
    from ipywidgets import Layout

    layout = traits.get("layout")
    names = [name for name in Layout.class_trait_names() if not name.startswith("_")]
    for name in layout if isinstance(layout, dict) else ():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ", as ipywidgets.Layout lists the names"
            raise TypeError(f"layout has no {name!r}{hint}")
    return traits


def traits_of(trace: Trace) -> dict[str, Any]:
    """The traits of a widget that shows a recorded run.

    Args:
        trace: the run.

    Returns:
        The values by name; those that the trace does not tell, or that a trait cannot have, are left out.
    """
    settings = recorded_settings(trace)
    traits: dict[str, Any] = {"prompt": settings.prompt[:MAX_TEXT], "steps": min(max(requested_steps(trace), 1), 1000)}
    if settings.weights:
        traits["weights"] = settings.weights
    if settings.negative_prompt:
        traits["negative_prompt"] = settings.negative_prompt[:MAX_TEXT]
    if settings.seed is not None and 0 <= settings.seed <= MAX_SEED:
        traits["seed"] = settings.seed
    if settings.guidance_scale is not None and 0 <= settings.guidance_scale <= 1000:
        traits["guidance_scale"] = settings.guidance_scale
    return traits
