"""The traits that DiffVis shares with its page: settings, which the page may change, and the state of the run."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from diffvis_widget.call_defaults import CallDefaults
from diffvis_widget.explain.methods import overlay_names
from diffvis_widget.wire.messages import RunRequest

from . import trait_types
from .page.limits import check_message

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

SETTINGS = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale", "schedule", "schedule_strength", "weights")
FROM_PAGE = (*SETTINGS, "concepts", "step", "selected", "overlay", "_tour")
# The public traits of every Jupyter widget: layout, tabbable, tooltip.
COMMON = tuple(name for name in anywidget.AnyWidget.class_trait_names(sync=True) if not name.startswith("_"))
STATUSES = ("idle", "loading", "queued", "running", "stopping", "stopped", "done", "failed")


class SyncedTraits(anywidget.AnyWidget):
    """The traits of DiffVis. The page may set the ones of ``FROM_PAGE``; the kernel sets the others.

    Args:
        **traits: values by name.

    Attributes:
        prompt: the text to paint.
        negative_prompt: what to keep away from; "" for none.
        seed: of the initial noise.
        steps: number of denoising steps, 1 to 1000; None becomes the pipeline's own default, once it is loaded.
        guidance_scale: strength of the guidance, 0 to 1000; None becomes the pipeline's own default, and stays None
            where the pipeline has none.
        schedule: "uniform", "early" or "late".
        schedule_strength: of "early" and "late".
        weights: attention factors of words; None leaves a word out.
        concepts: words for the concept meters. From the next run on, those that the prompt does not have get heat maps.
        step: the step on the stage, from 0.
        selected: the selected words, as indices into ``trace.words``.
        overlay: "attention", or the name of an explaining method that is registered or has maps in the shown trace.
        status: "idle", "loading", "queued", "running", "stopping", "stopped", "done" or "failed".
        progress: the finished share of the run, or of loading the pipeline, 0..1.
        error: why the run failed.
    """

    prompt = trait_types.Text().tag(sync=True)
    negative_prompt = trait_types.Text().tag(sync=True)
    seed = trait_types.Whole(0, 0, trait_types.MAX_SEED, "7").tag(sync=True)
    steps = trait_types.OrDefault[int](trait_types.Whole(30, 1, 1000, "30")).tag(sync=True)
    guidance_scale = trait_types.OrDefault[float](trait_types.Real(7.5, 0, 1000, "7.5")).tag(sync=True)
    schedule = trait_types.Choice(["uniform", "early", "late"]).tag(sync=True)
    schedule_strength = trait_types.Real(60.0, 0, 100_000, "60").tag(sync=True)
    weights = trait_types.Weights().tag(sync=True)
    concepts = trait_types.Concepts().tag(sync=True)
    step = trait_types.Whole(0, 0, 100_000, "0").tag(sync=True)
    selected = trait_types.Indices().tag(sync=True)
    overlay = trait_types.Choice(lambda widget: overlay_names(widget and widget._watched)).tag(sync=True)
    status = trait_types.Choice(STATUSES).tag(sync=True)
    progress = trait_types.Real(0.0, 0, 1, "0.5").tag(sync=True)
    error = t.Unicode("").tag(sync=True)
    _defaults = t.Instance(CallDefaults, ())
    _notice = t.Unicode("").tag(sync=True)
    _comparison_run = t.Unicode("").tag(sync=True)
    _can_run = t.Bool(True).tag(sync=True)
    _vocabulary = t.Dict().tag(sync=True)
    _sheet = t.List(t.Unicode()).tag(sync=True)
    _takes_concepts = t.Bool(False).tag(sync=True)
    _tour = trait_types.Whole(0, 0, 1, "1").tag(sync=True)
    _snapshot = t.Bytes(b"").tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._page_lock = threading.RLock()
        super().__init__(**traits)

    @classmethod
    def validated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Validate values of traits without setting them.

        Args:
            values: the values by name.

        Returns:
            The values as the traits take them.

        Raises:
            traitlets.TraitError: a trait cannot have that value; the message says what would work.
        """
        return {name: getattr(cls, name).validate(None, value) for name, value in values.items()}

    @t.validate("steps", "guidance_scale")
    def _or_default(self, proposal: Any) -> Any:
        value = proposal["value"]
        return getattr(self._defaults, proposal["trait"].name) if value is None else value

    @t.observe("_defaults")
    def _on_defaults(self, change: Any) -> None:
        for name in ("steps", "guidance_scale"):
            if getattr(self, name) is None:
                self.set_trait(name, getattr(change["new"], name))

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Set all settings that a run from the page brings, or none: a refused number must not leave a new prompt.

        Args:
            settings: the values by name.

        Raises:
            traitlets.TraitError: a trait cannot have that value.
        """
        values = dict(settings)
        if values.get("negative_prompt", "") is None:
            values["negative_prompt"] = ""
        for name, value in self.validated(values).items():
            self.set_trait(name, value)

    def tour(self) -> None:
        """Show a tour of the widget on its own stage, a minute with the run that is shown. Returns at once.

        It begins on the page once a step of a run is there.
        """
        self.set_trait("_tour", 1)

    def request(self) -> RunRequest:
        """Make the request of a run with the current traits.

        Returns:
            The request.

        Raises:
            ValueError: the schedule is impossible with so many steps.
        """
        request = RunRequest(**{name: getattr(self, name) for name in SETTINGS})
        check_schedule(request)
        return request

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Set traits for the page, one by one. For a refused value, the page gets an error and the old value.

        ipywidgets' own method holds back all notifications meanwhile, those of the worker's thread too.

        Args:
            sync_data: the values by name.
        """
        with self._page_lock:
            for name, value in sync_data.items():
                if name not in FROM_PAGE:
                    continue
                try:
                    check_message(value)
                    with self._lock_property(**{name: value}):
                        self.set_trait(name, value)
                except (t.TraitError, ValueError) as error:
                    self._refuse(str(error))
                    self.send_state(name)

    @property
    def _watched(self) -> Trace | None:
        """The trace on the stage, as far as it has come."""
        raise NotImplementedError

    def _refuse(self, message: str) -> None:
        """Tells the page why a value was refused."""
        raise NotImplementedError


def check_schedule(request: RunRequest) -> None:
    """Refuse a schedule before the run that could not follow it.

    Args:
        request: what to run.

    Raises:
        ValueError: the schedule is impossible with so many steps.
    """
    from diffvis_widget.schedule import timesteps

    if request.schedule in ("early", "late") and request.steps is not None:
        timesteps(request.schedule, request.steps, request.schedule_strength)


def weak_sender(widget: SyncedTraits) -> Callable[[dict[str, Any], Sequence[bytes]], None]:
    """A function that sends messages to the page of a widget and does not keep the widget alive.

    Args:
        widget: the widget.

    Returns:
        ``send(content, buffers)``; it does nothing once the widget is gone.
    """
    reference = weakref.ref(widget)

    def send(content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        if (alive := reference()) is not None:
            alive.send(content, buffers=list(buffers))

    return send


def weak_trait_setter(widget: SyncedTraits) -> Callable[[str, Any], None]:
    """A function that sets traits of a widget and does not keep the widget alive.

    Args:
        widget: the widget.

    Returns:
        ``set_trait(name, value)``; it does nothing once the widget is gone.
    """
    reference = weakref.ref(widget)

    def set_trait(name: str, value: Any) -> None:
        if (alive := reference()) is not None:
            alive.set_trait(name, value)

    return set_trait
