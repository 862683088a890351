"""DiffVis: the widget's traits, and what the page asks of it. The work is done in session.py."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import anywidget
import traitlets as t

from diffvis_widget import front_end
from diffvis_widget.export.mime_bundle import static_representations
from diffvis_widget.export.static_output import StaticOutput
from diffvis_widget.widget.page.requests import answer
from diffvis_widget.widget.page.saliency import METHODS
from diffvis_widget.widget.session.external_call import ExternalCall
from diffvis_widget.widget.session.outbox import Outbox
from diffvis_widget.widget.session.run import Run
from diffvis_widget.widget.session.session import Session
from diffvis_widget.wire.messages import RunRequest, ScoresPayload
from diffvis_widget.wire.packed_run import unpack

from . import jupyter as kernel
from . import trait_types as fields
from .pipe_argument import check_source, traits_of

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Note, Trace

# What the page may set; the other traits tell it how things stand.
SETTINGS = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale", "schedule", "schedule_strength", "weights")
FROM_PAGE = (*SETTINGS, "concepts", "step", "selected", "overlay")
STATES = ("idle", "loading", "queued", "running", "stopping", "stopped", "done", "failed")
MOMENT, PATIENCE = 10, 3600  # seconds that a display waits for a recorded run, and for one when nobody watches


class _Open:
    """``DiffVis.open(path)`` opens a file. On an instance it is ipywidgets' own ``open()``, which opens the comm."""

    def __get__(self, instance: DiffVis | None, owner: type[DiffVis]) -> Any:
        if instance is not None:
            return super(DiffVis, instance).open

        def open_file(path: str | os.PathLike[str], **arguments: Any) -> DiffVis:
            from diffvis_widget.traces import open_trace

            return owner(open_trace(path), **arguments)

        return open_file


class DiffVis(anywidget.AnyWidget):
    """Shows how a text-to-image diffusion model decides, step by step, while it runs.

    Args:
        pipe: a diffusers pipeline; the name of one (loaded in the background); None for the built-in scenes model; or a
            Trace, which is shown without a pipeline.
        prompt: the text to paint. A prompt given here, the empty one too, starts the run.
        concepts: words for the concept meters.
        seed: of the initial noise, 0 to 2**53 - 1.
        compare: a Trace, laid beside the run that is shown, as ``compare()`` does.
        meter: the ConceptMeter that scores; by default the scenes CLIP for the scenes model and none for others.
        **arguments: any other trait (steps=, guidance_scale=, schedule=, ...); the rest goes to the pipeline's call
            (height=, image=, ...).

    Raises:
        TypeError: ``pipe`` is none of these, or an argument that the pipeline does not take or the widget sets itself.
        ValueError: a pipeline whose denoiser cannot be read.
        traitlets.TraitError: a trait that cannot have that value; the message says what would work.

    The run goes on in a thread of its own, and functions that observe ``status``, ``progress`` or ``error`` are
    called in that thread.
    """

    _esm = front_end.script()
    _css = front_end.style()

    prompt = fields.Text().tag(sync=True)
    negative_prompt = fields.Text().tag(sync=True)
    seed = fields.Whole(0, 0, fields.MAX_SEED, "7").tag(sync=True)
    steps = fields.Whole(30, 1, 1000, "30").tag(sync=True)
    guidance_scale = fields.Real(7.5, 0, 1000, "7.5").tag(sync=True)
    schedule = fields.Choice(["uniform", "early", "late"]).tag(sync=True)
    schedule_strength = fields.Real(60.0, 0, 100_000, "60").tag(sync=True)
    weights = fields.Weights().tag(sync=True)
    concepts = fields.Concepts().tag(sync=True)
    step = fields.Whole(0, 0, 100_000, "0").tag(sync=True)
    selected = fields.Indices().tag(sync=True)
    overlay = fields.Choice(["attention", *METHODS]).tag(sync=True)
    status = fields.Choice(STATES).tag(sync=True)
    progress = fields.Real(0.0, 0, 1, "0.5").tag(sync=True)
    error = t.Unicode("").tag(sync=True)
    _notice = t.Unicode("").tag(sync=True)
    _beside = t.Unicode("").tag(sync=True)
    _can_run = t.Bool(True).tag(sync=True)
    _snapshot = t.Bytes(b"").tag(sync=True)

    def __init__(
        self,
        pipe: DiffusionPipeline | Trace | str | None = None,
        prompt: str | None = None,
        concepts: Sequence[str] = (),
        seed: int = 0,
        *,
        compare: Trace | None = None,
        meter: ConceptMeter | None = None,
        **arguments: Any,
    ) -> None:
        traits = {name: arguments.pop(name) for name in FROM_PAGE if name in arguments}
        if prompt is not None:
            traits["prompt"] = prompt
        _check_compare(compare)
        recorded = check_source(pipe, arguments)
        if recorded is not None:
            if prompt is not None:
                raise TypeError("prompt= starts a run, and a recorded run has no pipeline: give DiffVis a pipeline too")
            traits |= traits_of(recorded)
        if recorded is None:
            traits["seed"] = seed
        if recorded is not None and recorded.scores is not None:
            concepts = concepts or recorded.scores.concepts
        self._page_lock = threading.RLock()
        super().__init__(concepts=concepts, _can_run=recorded is None, **traits)
        self._outbox = Outbox(_sender(self))
        self._session = Session(pipe, self._outbox, _shower(self), meter, arguments)
        self._session.publisher.scorer.want(self.concepts)
        self.on_msg(self._on_page)
        kernel.let_page_choose_thread(self.comm)
        kernel.stop_earlier_runs_of_this_cell(self, self._session.stop)
        if compare is not None:
            self.compare(compare)
        if prompt is not None:
            self.run()

    # -- what Python asks --------------------------------------------------------------------------------------------

    if TYPE_CHECKING:

        @classmethod
        def open(cls, path: str | os.PathLike[str], **arguments: Any) -> DiffVis:  # pyright: ignore[reportIncompatibleMethodOverride]
            """A widget that shows the trace in the file ``path``; raises what ``open_trace`` raises."""
            ...

    else:
        open = _Open()

    @property
    def trace(self) -> Trace:
        """The latest finished run as data; waits for a run that goes on. A stopped run has the steps it got to.

        Raises:
            RunFailed: the run failed; its ``trace`` holds the finished steps.
            RuntimeError: there is no run, or it was stopped before its first step.
        """
        self.wait()
        return self._session.trace()

    def run(self) -> None:
        """Start a run with the traits as they are and return at once. A run that goes on is stopped: the latest wins.

        Raises:
            ValueError: the schedule cannot be had with so many steps.
            RuntimeError: the widget is closed, or shows a recorded run.
        """
        self._session.run(self._request())

    def stop(self) -> None:
        """End the run at its next step; the finished steps are kept. Returns at once."""
        self._session.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is loading, waiting or running. False if that took longer than ``timeout`` seconds.

        An interrupt (the notebook's stop button) stops the run.
        """
        try:
            return self._session.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            raise

    async def arun(self) -> Trace:
        """Start a run and give its trace when it has ended, without blocking the event loop. Raises as ``trace``."""
        self.run()
        try:
            await asyncio.to_thread(self._session.wait)
        except asyncio.CancelledError:
            self.stop()
            raise
        return self._session.trace()

    @property
    def history(self) -> list[Trace]:
        """The runs that are kept, oldest first: the last 8 with a finished step, fewer where they are above 2 GiB."""
        return [run.trace for run in self._session.history.runs if run.trace is not None]

    def show(self, trace: Trace) -> None:
        """Show a run of ``history`` again, and set the traits to what it was asked for. Returns at once.

        Raises:
            ValueError: ``trace`` is not kept here.
            RuntimeError: the widget is closed, or a run is going on.
        """
        run = next((run for run in self._session.history.runs if run.trace is trace), None)
        if run is None:
            raise ValueError("show takes a trace of widget.history; DiffVis(trace) shows any other")
        self._show_run(run)

    def compare(self, trace: Trace | None) -> None:
        """Lay a recorded run beside the one that is shown, as A beside B; None takes it away again. Returns at once.

        ``dv.compare(a, b)`` gives the numbers that the page shows of the two.

        Raises:
            TypeError: ``trace`` is no Trace.
            RuntimeError: the widget is closed.
        """
        _check_compare(trace)
        self._session.compare(trace)

    def check_model(self, pipe: Any) -> None:
        """Check that the widget can show calls of a pipeline: that it was made for the same model.

        Args:
            pipe: The pipeline.

        Raises:
            ValueError: The widget was made for another model.
        """
        self._session.check_model(pipe)

    def follow(self, pipe: Any) -> ExternalCall:
        """Show one call of ``pipe`` that the notebook's own code makes: what ``dv.Tracer(pipe, view=widget)`` uses.

        A run of the widget's own is stopped for it. Stop in the page ends the call at its next step.

        Raises:
            RuntimeError: the widget is closed.
            ValueError: it was made for another model.
        """
        return ExternalCall(self._session, pipe)

    def observe_scores(self, callback: Callable[[ScoresPayload], None]) -> None:
        """Call ``callback`` with the concept scores of the run that is shown, now and whenever there are more.

        It is called in a thread of the widget's own.
        """
        self._session.publisher.scorer.listen(callback)

    def note(
        self,
        text: str,
        step: int | None = None,
        words: Sequence[str | int] = (),
        region: tuple[float, float, float, float] | None = None,
    ) -> Note:
        """Pin a note to the latest run, for a tour of it. Waits for a run that goes on.

        It is kept in ``widget.trace.notes``, in its file and in its page. text: what to look at. step: its index, or
        None for the whole run. words: as for `Trace.heat_map`. region: (left, top, right, bottom) of a part of the
        picture, 0..1 from its left and its top.

        Raises what ``trace`` raises, TypeError or ValueError for a note that cannot be, IndexError for a step and
        KeyError for a word that the run does not have.
        """
        trace = self.trace
        note = trace.note(text, step, words, region)
        self._session.replay.noted(trace)
        return note

    def static(self, layers: bool | Literal["heads"] = False, height: int = 820) -> StaticOutput:
        """The run as an output that needs no kernel: the page of `dv.to_html` in a frame. Waits for a run that goes on.

        As last line of a cell it is stored in the notebook, works when that is opened again, and in nbconvert's HTML.
        layers: as for `dv.to_html`. height: of the frame, in pixels. Raises what ``trace`` and `dv.to_html` raise.
        """
        return StaticOutput(self.trace, layers, height)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """For hosts without widgets there is a filmstrip and a sentence too, once there is a run to show.

        A recorded run is there in a moment; for a run that goes on a program that executes the notebook can wait, and a
        reader does not want to.
        """
        if not self._can_run or kernel.is_unattended():
            self.wait(MOMENT if not self._can_run else PATIENCE)
        shown = super()._repr_mimebundle_(**options)
        if shown is not None and self._snapshot:
            shown[0].update(static_representations(unpack(self._snapshot)))
        return shown

    def close(self) -> None:
        """Stop what goes on, end the threads and take the widget off the page."""
        if session := getattr(self, "_session", None):
            session.close()
        super().close()

    # -- what the page asks; in any thread ---------------------------------------------------------------------------

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take traits that the page has set, one by one: what is refused is answered, and the page gets it back.

        Not ipywidgets' own: that one holds back all notifications meanwhile, also those of the worker's thread.
        """
        with self._page_lock:
            for name, value in sync_data.items():
                if name not in FROM_PAGE:
                    continue
                try:
                    with self._lock_property(**{name: value}):
                        self.set_trait(name, value)
                except t.TraitError as error:
                    self._outbox.error(str(error))
                    self.send_state(name)

    def _on_page(self, _: object, content: Any, buffers: object) -> None:
        try:
            match content:
                case {"type": "hello", "run": run, "have": list(have)}:
                    self._outbox.hello(run, have)
                case {"type": "ack", "seq": seq}:
                    self._outbox.acknowledge(seq)
                case {"type": "run"}:
                    self._run_from_page(content)
                case {"type": "stop"}:
                    self.stop()
                case {"type": "show", "run": str(run)}:
                    self._show_run(self._session.history.find(run))
                case _:
                    self._answer(content)
        except (t.TraitError, TypeError, ValueError, RuntimeError) as error:
            self._outbox.error(str(error))

    def _answer(self, asked: Any) -> None:
        try:
            told = answer(self._session, asked)
        except (LookupError, ValueError, OSError) as error:
            self._outbox.error(str(error), asked["id"])
            return
        if told is None:
            self._outbox.error(f"the kernel does not know this message: {fields.shorten(asked)}")
        else:
            self._outbox.answer(told)

    def _show_run(self, run: Run) -> None:
        self._session.show(run)
        assert run.trace is not None  # only such runs are kept
        for name, value in (asdict(run.request) if run.request else traits_of(run.trace)).items():
            self.set_trait(name, value)

    def _run_from_page(self, content: dict[str, Any]) -> None:
        wanted = {name: content[name] for name in SETTINGS if name in content}
        if wanted.get("negative_prompt", "") is None:
            wanted["negative_prompt"] = ""
        # All or nothing: a refused number must not leave a new prompt behind.
        checked = {name: getattr(type(self), name).validate(self, value) for name, value in wanted.items()}
        for name, value in checked.items():
            self.set_trait(name, value)
        self.run()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _request(self) -> RunRequest:
        from diffvis_widget.schedule import timesteps

        if self.schedule in ("early", "late"):
            timesteps(self.schedule, self.steps, self.schedule_strength)  # says now what could not be run later
        return RunRequest(**{name: getattr(self, name) for name in SETTINGS})

    @t.validate("selected")
    def _words_exist(self, proposal: Any) -> list[int]:
        words = self._outbox.words if hasattr(self, "_outbox") else None
        if words is not None and (wrong := [index for index in proposal["value"] if index >= words]):
            raise t.TraitError(f"selected must be indices into trace.words, 0 to {words - 1}; got {wrong[0]}")
        return proposal["value"]

    @t.observe("concepts")
    def _on_concepts(self, change: Any) -> None:
        if hasattr(self, "_session"):
            self._session.publisher.scorer.want(change["new"])

    @t.observe("step")
    def _on_step(self, change: Any) -> None:
        if hasattr(self, "_session"):
            self._session.decoder.focus = change["new"]


def _check_compare(trace: Any) -> None:
    from diffvis_widget.traces import Trace

    if trace is not None and not isinstance(trace, Trace):
        raise TypeError(f"compare takes a Trace, as dv.trace and dv.open_trace give it; got {fields.shorten(trace)}")


def _sender(widget: DiffVis) -> Callable[[dict[str, Any], Sequence[bytes]], None]:
    """Sends to the page of a widget that it does not keep alive."""
    reference = weakref.ref(widget)

    def send(content: dict[str, Any], buffers: Sequence[bytes]) -> None:
        if (alive := reference()) is not None:
            alive.send(content, buffers=list(buffers))

    return send


def _shower(widget: DiffVis) -> Callable[..., None]:
    """Sets traits of a widget that it does not keep alive."""
    reference = weakref.ref(widget)

    def show(**traits: Any) -> None:
        if (alive := reference()) is not None:
            for name, value in traits.items():
                alive.set_trait(name, value)

    return show
