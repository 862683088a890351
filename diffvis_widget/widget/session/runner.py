"""Performs a run: waits for the denoiser, samples, publishes each step, and sets a final state, after errors too."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.wire.messages import RunRequest, StepImages
from diffvis_widget.wire.trace_messages import recorded_settings, requested_settings

from .camera import LiveImages
from .decoding import IdleDecoder
from .history import History
from .pipeline import SessionPipeline
from .publisher import Publisher
from .replay import Replay
from .run import LOCK_POLL, Run
from .sampling import sample, with_defaults
from .state import SessionState
from .threads import single_threaded_denoiser

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

log = logging.getLogger(__name__)


class Runner:
    """Performs runs of one session.

    Args:
        state: the session's state.
        pipeline: its pipeline.
        arguments: further arguments for every pipeline call.
        publisher: gets the steps.
        decoder: decodes the images that were shown as previews.
        history: keeps the runs.
        replay: saves runs in the notebook.
    """

    def __init__(
        self,
        state: SessionState,
        pipeline: SessionPipeline,
        arguments: Mapping[str, Any],
        publisher: Publisher,
        decoder: IdleDecoder,
        history: History,
        replay: Replay,
    ) -> None:
        self._state, self._pipeline, self._arguments = state, pipeline, arguments
        self._publisher, self._decoder, self._history, self._replay = publisher, decoder, history, replay

    def perform(self, run: Run) -> None:
        """Sample the active run in this thread, from waiting for the denoiser to its end.

        Args:
            run: the active run.
        """
        pipe = self._pipeline.pipe
        run.request = request = with_defaults(run.request or RunRequest(""), pipe)
        run.state = "done"
        try:
            with self._denoiser(run), single_threaded_denoiser(pipe):
                run.started = time.perf_counter()
                # The built-in model is so small that every head can be kept; for others that would be gigabytes.
                keep = "heads" if self._pipeline.is_scenes() else "layers"
                with LiveImages(pipe, functools.partial(self.step, run), run.stop) as live:

                    def finished(trace: Trace, step: Step) -> None:
                        live.add(trace, step, run.elapsed)
                        run.check()

                    sample(pipe, request, self._arguments, finished, keep, self._publisher.scorer.concepts)
                self._decoder.decode_quickly(run, pipe)
        except Cancelled:
            run.state = "stopped"
        except BaseException as error:  # noqa: BLE001 - whatever a pipeline raises is shown, and the worker goes on
            run.fail(error)
        self.end(run)

    def start(self, run: Run) -> None:
        """Show that the active run goes on.

        Args:
            run: the active run.

        Raises:
            Cancelled: it was stopped in this very moment.
        """
        # Each of several seeds is shown as it is painted.
        seed = {"seed": run.request.seed} if run.part == "seeds" and run.request else {}
        self._show(run, status="running", progress=0.0, error="", _notice="", **seed)

    def show_settings(self, settings: Mapping[str, Any]) -> None:
        """Set the widget's traits to the settings of a call of the notebook's own code.

        Args:
            settings: the values by name; a setting that is missing does not matter to the call, or is not known.
        """
        self._state.set_traits(**{"negative_prompt": "", "weights": {}, "schedule": "uniform", **settings})

    def step(self, run: Run, trace: Trace, images: StepImages, elapsed: float) -> None:
        """Publish a finished step of the active run.

        Args:
            run: the active run; one without a request is a call of the notebook's own code.
            trace: its trace, with the step.
            images: those of the step.
            elapsed: seconds since the run began.
        """
        index = images.step.index
        planned = max(int(trace.meta["planned_steps"]), index + 1)
        if run.trace is None:
            run.trace = trace
            if run.request is None:
                settings = replace(recorded_settings(trace), is_external=True)
            else:
                settings = replace(requested_settings(run.request, planned, trace), is_draft=run.part == "draft")
            self._publisher.begin(run, trace, images, settings, self._pipeline.unknown_words(settings.prompt))
        self._publisher.step(run, trace, images, elapsed)
        if images.exact and images.prediction is not None and images.prediction.ndim == 3:
            trace.keep_frame("prediction", index, images.prediction)
        else:
            run.inexact.add(index)
        if not images.exact_latents and has_scenes_mark(run.pipe or self._pipeline.pipe):
            run.inexact_latents.add(index)
        run.decode_seconds = images.decode_seconds
        self._state.set_traits(progress=(index + 1) / planned)

    def end(self, run: Run) -> None:
        """Publish the end of the active run, keep it in the history, and free the session for the next. Never raises.

        Args:
            run: the active run, in its final ``state``.
        """
        complete, traits = True, dict[str, Any]()
        try:
            complete, traits = self._publish_end(run)
        except BaseException as error:
            log.exception("the end of a run could not be published")
            run.fail(error)
        state = self._state
        with state.update():
            state.latest, state.active = run, None
            if run.steps:
                state.shown = run
            state.advance(run)
            if state.requested is not None:
                state.queue_traits(status="queued")
            else:
                state.queue_traits(error=run.error, _notice=self._publisher.scorer.problem, **traits)
                state.queue_traits(status=run.state)  # last: an observer of it finds everything else set
        if not complete:
            self._replay.save_after_scoring(run)

    def _publish_end(self, run: Run) -> tuple[bool, dict[str, Any]]:
        """Whether the scores are complete, and the traits that show the end and save the run in the notebook."""
        seconds = run.elapsed
        if run.steps and not (run.part == "draft" and self._state.follows(run)):
            self._history.add(run)
        complete = self._state.follows(run) or self._publisher.settle(run)
        self._publisher.end(run, seconds)
        traits: dict[str, Any] = {"progress": 1.0} if run.state == "done" else {}
        if run.steps and not self._state.follows(run):
            traits["_snapshot"] = self._publisher.snapshot()
        return complete, traits

    @contextlib.contextmanager
    def _denoiser(self, run: Run) -> Iterator[None]:
        """The denoiser for this run alone; waits while another one has it and this one is not stopped."""
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(self._pipeline.pipe)
        if not lock.acquire(blocking=False):
            self._show(run, status="queued", _notice="Queued: another run is using this model")
            while not lock.acquire(timeout=LOCK_POLL):
                run.check()
        try:
            self.start(run)
            yield
        finally:
            lock.release()

    def _show(self, run: Run, **traits: Any) -> None:
        """Set traits, unless the run was stopped in this very moment: then "stopping" must stay."""
        with self._state.update():
            run.check()
            self._state.queue_traits(**traits)
