"""Tells the page about a run: pictures and maps are encoded in one thread, concepts scored in another.

The thread that samples only hands over; what cannot be encoded or scored is logged and never ends a run.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.widget import jupyter as kernel
from diffvis_widget.wire import images as pictures
from diffvis_widget.wire.messages import RunSettings, State, StepImages, end_message
from diffvis_widget.wire.shrink import snapshot
from diffvis_widget.wire.trace_messages import (
    recorded_settings,
    traced_run_message,
    traced_step_message,
    views_of,
    with_notes,
)

from .outbox import Outbox
from .run import Run
from .scoring import Scorer

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)

PATIENCE = 2.0  # at most this long a finished run waits for its last scores
UNWATCHED = 600.0  # and this long where a program executes the notebook and takes what is there in the end


class Publisher:
    """Feeds one stream. ``tell`` gets a sentence when the concept meter cannot be used."""

    def __init__(self, outbox: Outbox, tell: Callable[[str], None]) -> None:
        self._outbox = outbox
        self.scorer = Scorer(outbox, tell)
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="diffvis-encode")

    def begin(self, run: Run, trace: Trace, shot: StepImages, settings: RunSettings, unknown: Collection[str]) -> None:
        """A run whose first step is ``shot``."""
        size = (0, 0) if shot.prediction is None else (shot.prediction.shape[0], shot.prediction.shape[1])
        views, meter = views_of(trace), self.scorer.label

        def send() -> None:
            self.scorer.begin(run.id, trace)
            self._outbox.begin(traced_run_message(run.id, trace, settings, unknown, size, views, meter))

        self._later(send)

    def step(self, run: Run, trace: Trace, shot: StepImages, elapsed: float) -> None:
        self._later(lambda: self._outbox.step(traced_step_message(run.id, trace, shot, elapsed)))
        if shot.exact and shot.prediction is not None:
            self._score(run, shot.step.index, shot.prediction)

    def frame(self, run: Run, index: int, image: NDArray[np.uint8]) -> None:
        """The exact picture of a step that was told with a preview."""
        self._later(lambda: self._outbox.frame(run.id, index, pictures.webp(image)))
        self._score(run, index, image)

    def settle(self, run: Run) -> bool:
        """Wait until all that was told is encoded and, for a run with exact pictures throughout, scored.

        False if scores are still to come: a meter that has to be loaded first takes longer than a run should wait.
        """
        self._flush()
        if not run.steps or run.inexact:
            return True
        self.scorer.finish(run.id, run.steps)
        return self.scorer.drain(UNWATCHED if kernel.is_unattended() else PATIENCE)

    def end(self, run: Run, seconds: float) -> None:
        """The run is over, in its ``state``."""
        image = run.trace.image if run.state == "done" and run.trace is not None and run.has_pictures else None
        picture = None if image is None else pictures.png(image)
        state: State = "done" if run.state == "done" else "failed" if run.state == "failed" else "stopped"
        message = end_message(run.id, state, run.steps, seconds, run.error or None, picture)

        def send() -> None:
            self._outbox.end(message)
            self._note(run)

        self._later(send)

    def noted(self, run: Run) -> None:
        """The notes of a run that was told are others now."""

        def send() -> None:
            if run.payload is not None and run.trace is not None:
                begun = with_notes(run.payload.run, run.trace)
                run.payload = replace(run.payload, run=begun)
                self._outbox.again(begun)

        self._later(send)

    def keep(self, run: Run) -> None:
        """Note down what is told of ``run`` so far, so that it can be shown again."""
        self._later(lambda: self._note(run))

    def _note(self, run: Run) -> None:
        told = self._outbox.told()
        if told is not None and told.run.content["run"] == run.id:
            run.payload = told

    def show(self, run: Run) -> None:
        """A run that was kept, again; its concepts are scored anew where others are measured by now."""

        def send() -> None:
            # Read here, in its turn: new notes, or the run's very end, may still stand in the queue before this.
            assert run.payload is not None  # only such runs are kept
            self.scorer.begin(run.id)
            self._outbox.show(run.payload)

        self._later(send)
        if run.has_pictures and not run.inexact:
            self.score(run)

    def score(self, run: Run) -> None:
        """Score all pictures of a run whose pictures are all decoded exactly."""
        assert run.trace is not None
        for index, image in enumerate(run.trace.frames("prediction")):
            self._score(run, index, image)
        self._later(lambda: self.scorer.finish(run.id, run.steps))

    def snapshot(self) -> bytes:
        """What is told so far, packed for a saved notebook."""
        self._flush()
        told = self._outbox.told()
        return b"" if told is None else snapshot(told.messages())

    def recorded(self, run: Run, trace: Trace, unknown: Collection[str]) -> bool:
        """A whole run that was recorded elsewhere. False if scores are still to come."""
        kinds = views_of(trace)
        predictions = trace.frames("prediction") if "prediction" in kinds else None
        noisy = trace.frames("latents") if "latents" in kinds else None
        run.has_pictures = predictions is not None
        for index, step in enumerate(trace.steps):
            picture = None if predictions is None else predictions[index]
            shot = StepImages(step, picture, None if noisy is None else noisy[index], exact=True)
            if index == 0:
                self.begin(run, trace, shot, recorded_settings(trace), unknown)
            self.step(run, trace, shot, 0.0)
        if predictions is None:
            run.inexact.clear()
        complete = self.settle(run)
        self.end(run, 0.0)
        return complete

    def close(self) -> None:
        self.scorer.close()
        self._encoder.shutdown(wait=False, cancel_futures=True)

    def _score(self, run: Run, index: int, image: NDArray[np.uint8]) -> None:
        """Through the encoder's queue: the page takes scores only of a run that it knows."""
        self._later(lambda: self.scorer.add(run.id, index, image))

    def _flush(self) -> None:
        """Wait until all that was told is with the stream."""
        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._encoder.submit(lambda: None).result()

    def _later(self, job: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                job()
            except Exception:
                log.exception("a step could not be shown")

        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._encoder.submit(guarded)
