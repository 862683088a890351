"""DiffVis: the methods for the notebook, and the handler of the page's messages. `session` does the work."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import traitlets as t

from diffvis_widget import front_end
from diffvis_widget.concepts.meter import check_meter
from diffvis_widget.export.mime_bundle import WIDGET_ADVICE, static_representations
from diffvis_widget.export.static_output import StaticOutput
from diffvis_widget.widget.page.limits import check_message
from diffvis_widget.widget.page.requests import reply, request_id
from diffvis_widget.widget.session.external_call import ExternalCall
from diffvis_widget.widget.session.jobs import EXPECTED
from diffvis_widget.widget.session.outbox import Outbox
from diffvis_widget.widget.session.run import Run, error_text
from diffvis_widget.widget.session.session import Session
from diffvis_widget.wire.messages import RunRequest, ScoresPayload
from diffvis_widget.wire.packed_run import unpack

from . import jupyter, pipe_argument
from .open_method import OpenMethod
from .pipe_argument import check_compare, check_layout, check_source, known_defaults, traits_of
from .run_controls import RunControls
from .synced_traits import COMMON, FROM_PAGE, SETTINGS, check_schedule, weak_sender, weak_trait_setter

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Note, Trace
    from diffvis_widget.wire.recorded_run import Layers

log = logging.getLogger(__name__)

DISPLAY_PATIENCE = 10  # seconds that a display waits for a recorded run
UNATTENDED_PATIENCE = 3600  # seconds that a display waits for a run where a program executes the notebook


class DiffVis(RunControls):
    """Shows how a text-to-image diffusion model decides, step by step, while it runs.

    All traits can be set from Python, observed and linked; `SyncedTraits` lists them. A run goes on in a thread of its
    own. Functions that observe ``status``, ``progress`` or ``error`` are called in that thread, or in the thread that
    caused the change.

    Args:
        pipe: a diffusers pipeline; the name of one (loaded in the background); None for the built-in scenes model; or a
            Trace, which is shown without a pipeline.
        prompt: the text to paint. A prompt given here, the empty one too, starts the run.
        concepts: words for the concept meters; those that the prompt does not have get a heat map too (`Tracer`).
        seed: of the initial noise, 0 to 2**53 - 1.
        compare: a Trace to show beside the run, as ``compare()`` does.
        meter: the ConceptMeter that scores; by default the scenes CLIP for the scenes model and none for others.
        **arguments: any other trait (steps=, guidance_scale=, schedule=, ...), also those of every Jupyter widget
            (layout=, tooltip=, tabbable=); the rest goes to the pipeline's call (height=, image=, ...).

    Raises:
        TypeError: ``pipe`` is none of these, ``meter`` or ``compare`` has another type, or an argument is one that the
            pipeline does not take or that the widget sets itself.
        ValueError: the denoiser of the pipeline cannot be read, or the schedule is impossible with so many steps.
        traitlets.TraitError: a trait cannot have that value; the message says what would work.

    Example:
        >>> import diffvis_widget as dv
        >>> widget = dv.DiffVis(prompt="a red circle", seed=7, steps=2)
        >>> len(widget.trace.steps)
        2
        >>> widget.close()
    """

    _esm = front_end.script()
    _css = front_end.style()

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
        # Everything is validated before anything is started.
        common = {name: arguments.pop(name) for name in COMMON if name in arguments}
        traits = {name: arguments.pop(name) for name in FROM_PAGE if name in arguments}
        check_compare(compare)
        check_meter(meter)
        recorded = check_source(pipe, arguments)
        defaults = known_defaults(pipe)
        if recorded is not None and prompt is not None:
            raise TypeError("prompt= starts a run, and a recorded run has no pipeline: give DiffVis a pipeline too")
        if recorded is not None:
            traits |= traits_of(recorded)
            concepts = concepts or ([] if recorded.scores is None else recorded.scores.concepts)
        else:
            traits["seed"] = seed
        traits |= {} if prompt is None else {"prompt": prompt}
        traits = self.validated({**traits, "concepts": concepts})
        for name, value in asdict(defaults).items():
            traits[name] = value if traits.get(name) is None else traits[name]
        if prompt is not None:
            request = RunRequest(**{name: traits[name] for name in SETTINGS if name in traits})
            check_schedule(request)
            traits["_snapshot"] = pipe_argument.shown_while_loading(pipe, request, arguments, traits["concepts"], meter)
        super().__init__(
            _can_run=recorded is None, _defaults=defaults, **self.validated(check_layout(common)), **traits
        )
        try:
            self._outbox = Outbox(weak_sender(self))
            self._session = Session(pipe, self._outbox, weak_trait_setter(self), meter, arguments)
            self._session.publisher.scorer.set_concepts(self.concepts)
            self.on_msg(self._on_page)
            jupyter.let_page_choose_thread(self.comm)
            jupyter.stop_earlier_runs_of_this_cell(self, self._session.stop)
            if compare is not None:
                self.compare(compare)
            if prompt is not None:
                self.run()
        except BaseException:
            layout: Any = self.layout  # a widget of its own, which ipywidgets lists too
            self.close()
            layout.close()
            raise

    # -- methods for the notebook ------------------------------------------------------------------------------------

    if TYPE_CHECKING:

        @classmethod
        def open(cls, path: str | os.PathLike[str], **arguments: Any) -> DiffVis:  # pyright: ignore[reportIncompatibleMethodOverride]
            """Show the trace in a file.

            Args:
                path: the file.
                **arguments: as for DiffVis.

            Returns:
                A widget without a pipeline. Raises what ``open_trace`` raises.
            """
            ...

    else:
        open = OpenMethod()

    @property
    def history(self) -> list[Trace]:
        """The runs that are kept, oldest first: the last 12 with a finished step, fewer where they exceed 2 GiB."""
        return [run.trace for run in self._session.history.runs if run.trace is not None]

    def show(self, trace: Trace) -> None:
        """Show a run of ``history`` again, and set the traits to its settings. Returns at once.

        Args:
            trace: the run.

        Raises:
            ValueError: ``trace`` is not kept here.
            RuntimeError: the widget is closed, or a run is in progress.
        """
        run = next((run for run in self._session.history.runs if run.trace is trace), None)
        if run is None:
            raise ValueError("show takes a trace of widget.history; DiffVis(trace) shows any other")
        self._show_run(run)

    def compare(self, trace: Trace | None) -> None:
        """Show a recorded run beside the current one, as A beside B. Returns at once.

        ``dv.compare(a, b)`` gives the numbers that the page shows of the two.

        Args:
            trace: the recorded run; None removes the comparison.

        Raises:
            TypeError: ``trace`` is no Trace.
            RuntimeError: the widget is closed.
        """
        check_compare(trace)
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
        """Show one call of a pipeline that the notebook's own code makes: ``dv.Tracer(pipe, view=widget)`` uses this.

        A run of the widget's own is stopped for it. Stop in the page ends the call at its next step.

        Args:
            pipe: the pipeline.

        Returns:
            Takes the steps and the end of the call.

        Raises:
            RuntimeError: the widget is closed.
            ValueError: the widget was made for another model.
        """
        return ExternalCall(self._session, pipe, traits_of)

    def observe_scores(self, callback: Callable[[ScoresPayload], None]) -> None:
        """Call a function with the concept scores of the current run, now and whenever there are more.

        Args:
            callback: the function; it is called in a thread of the widget's own.
        """
        self._session.publisher.scorer.listen(callback)

    def note(
        self,
        text: str,
        step: int | None = None,
        words: Sequence[str | int] = (),
        region: tuple[float, float, float, float] | None = None,
        expects: str | None = None,
    ) -> Note:
        """Pin a note to the latest run, for a tour of it. Waits for a run in progress.

        Args:
            text: what to look at.
            step: its index; None for the whole run.
            words: as for `Trace.heat_map`.
            region: (left, top, right, bottom) of a part of the image, 0..1 from its left and its top.
            expects: what a run must show; see `Note`.

        Returns:
            The note, which is kept in ``widget.trace.notes``, in its file and in its page.

        Raises:
            TypeError: an argument has another type.
            ValueError: an argument is out of range.
            IndexError: the run has no such step.
            KeyError: the run has no such word.
            RuntimeError: as for ``trace``.
        """
        note = (trace := self.trace).note(text, step, words, region, expects)
        self._session.replay.update_notes(trace)
        return note

    def static(self, layers: Layers = False, height: int | None = None, live: bool = False) -> StaticOutput:
        """The run as an output that needs no kernel: the page of `dv.to_html` in a frame. Waits for a run in progress.

        As last line of a cell it is stored in the notebook; it works when that is opened again and in nbconvert's HTML.

        Args:
            layers: as for `dv.to_html`.
            height: of the frame, in pixels; None fits it to its content.
            live: as for `dv.to_html`; the notebook grows by the size of the model, about 26 MB.

        Returns:
            The output. Raises what ``trace`` and `dv.to_html` raise.
        """
        return StaticOutput(self.trace, layers, height, live)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        # Adds a filmstrip and a sentence for hosts without widgets, once there is a run to show: a recorded run is in a
        # moment, and a program that executes the notebook also waits for one in progress.
        if not self._can_run or jupyter.is_unattended():
            self.wait(DISPLAY_PATIENCE if not self._can_run else UNATTENDED_PATIENCE)
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None and self._snapshot:
            bundle[0].update(static_representations(unpack(self._snapshot), WIDGET_ADVICE))
        return bundle

    def close(self) -> None:
        """Stop everything, end the threads and take the widget off the page."""
        if session := getattr(self, "_session", None):
            session.close()
        super().close()

    # -- messages of the page, in any thread -------------------------------------------------------------------------

    def _on_page(self, _: object, content: Any, buffers: object) -> None:
        """Whatever goes wrong is answered, with the id of the request where it has one."""
        request = None
        try:
            request = request_id(content)
            check_message(content, buffers)
            match content:
                case {"type": "hello", "run": run, "have": list(have)}:
                    self._outbox.hello(run, have)
                case {"type": "ack", "seq": seq}:
                    self._outbox.acknowledge(seq)
                case {"type": "run"}:
                    self.set_settings({name: content[name] for name in SETTINGS if name in content})
                    self.start(content.get("seeds", 0), draft=content.get("draft") is True)
                case {"type": "stop"}:
                    self.stop()
                case {"type": "show", "run": str(run)}:
                    self._show_run(self._session.history.find(run))
                case _:
                    self._outbox.reply(reply(self._session, request, content))
        except Exception as error:
            if not isinstance(error, (*EXPECTED, TypeError, t.TraitError)):
                log.exception("a message of the page could not be handled")
            self._outbox.error(error_text(error), request)

    @property
    def _watched(self) -> Trace | None:
        return self._session.watched if hasattr(self, "_session") else None

    def _refuse(self, message: str) -> None:
        self._outbox.error(message)

    def _show_run(self, run: Run) -> None:
        self._session.show(run)
        assert run.trace is not None  # only such runs are kept
        for name, value in (asdict(run.request) if run.request else traits_of(run.trace)).items():
            self.set_trait(name, value)

    # -- inside ------------------------------------------------------------------------------------------------------

    @t.validate("selected")
    def _words_exist(self, proposal: Any) -> list[int]:
        words = self._outbox.words if hasattr(self, "_outbox") else None
        if words is not None and (missing := [index for index in proposal["value"] if index >= words]):
            raise t.TraitError(f"selected must be indices into trace.words, 0 to {words - 1}; got {missing[0]}")
        return proposal["value"]

    @t.observe("concepts")
    def _on_concepts(self, change: Any) -> None:
        if hasattr(self, "_session"):
            self._session.publisher.scorer.set_concepts(change["new"])

    @t.observe("step")
    def _on_step(self, change: Any) -> None:
        if hasattr(self, "_session"):
            self._session.decoder.focus = change["new"]
