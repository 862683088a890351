"""Publishes a run to the page: images and maps are encoded in one thread, concepts are scored in another.

The sampling thread only hands over. What cannot be encoded or scored is logged and never ends a run.
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

from diffvis_widget.traces.noise import lacks_noise_levels
from diffvis_widget.widget import jupyter
from diffvis_widget.wire import images
from diffvis_widget.wire.messages import RunSettings, State, StepImages, View, end_message
from diffvis_widget.wire.recorded_run import recorded_images
from diffvis_widget.wire.shrink import snapshot
from diffvis_widget.wire.trace_messages import (
    image_note_of,
    recorded_settings,
    traced_run_message,
    traced_step_message,
    views_of,
    with_notes,
)
from diffvis_widget.wire.video_messages import shown_frames, webps, with_video

from .outbox import Outbox
from .run import Run
from .scoring import Scorer

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds that a finished run waits for its last scores
UNATTENDED_PATIENCE = 600.0  # the same where a program executes the notebook and saves what is there in the end


class StepVideo:
    """The images of a step of a video, one for each latent frame: held once, and decoded again after that.

    Args:
        trace: the trace.
        index: the step.
        image: uint8 (F, H, W, 3); None: they are decoded on first use.
    """

    def __init__(self, trace: Trace, index: int, image: NDArray[np.uint8] | None) -> None:
        self._trace, self._index, self._image = trace, index, image

    def __call__(self) -> NDArray[np.uint8]:
        """Take the images.

        Returns:
            uint8 (F, H, W, 3).
        """
        image, self._image = self._image, None
        if image is not None:
            return image
        trace = self._trace
        if trace.encoded_frames("prediction") is not None:  # opened from a file
            return shown_frames(trace, trace.frame("prediction", self._index))
        return shown_frames(trace, trace.decode(trace.records[self._index].prediction[None])[0])


class Publisher:
    """Encodes runs for one outbox.

    Args:
        outbox: gets the messages.
        show_notice: called with a sentence when the concept meter cannot be used.

    Attributes:
        scorer: scores the concepts.
    """

    scorer: Scorer

    def __init__(self, outbox: Outbox, show_notice: Callable[[str], None]) -> None:
        self._outbox = outbox
        self.scorer = Scorer(outbox, show_notice)
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="diffvis-encode")

    def begin(self, run: Run, trace: Trace, shown: StepImages, settings: RunSettings, unknown: Collection[str]) -> None:
        """Begin a run.

        Args:
            run: the run.
            trace: its trace.
            shown: the images of its first step.
            settings: the settings of the run.
            unknown: the words of its prompt that the model was never trained on.
        """
        size = (0, 0) if shown.prediction is None else shown.prediction.shape[-3:-1]
        views, meter = views_of(trace), None if lacks_noise_levels(trace.meta) else self.scorer.label

        def send() -> None:
            self.scorer.begin(run.id, trace)
            self._outbox.begin(traced_run_message(run.id, trace, settings, unknown, size, views, meter))

        self._later(send)

    def step(self, run: Run, trace: Trace, shown: StepImages, elapsed: float) -> None:
        """Add a finished step.

        Args:
            run: the run.
            trace: its trace.
            shown: the images of the step.
            elapsed: seconds since the run began.
        """
        self._later(lambda: self._outbox.step(traced_step_message(run.id, trace, shown, elapsed)))
        if shown.exact and shown.prediction is not None:
            self._score(run, shown.step.index, shown.prediction)

    def frame(self, run: Run, index: int, image: NDArray[np.uint8], view: View = "prediction") -> None:
        """Replace a preview of a step by the exact image.

        Args:
            run: the run.
            index: the step.
            image: uint8 (H, W, 3); of a video, that of each latent frame.
            view: which image of the step it is.
        """
        largest, quality = (images.LARGEST, 85) if view == "prediction" else (images.LATENTS_LARGEST, 70)
        self._later(lambda: self._outbox.frame(run.id, index, webps(image, largest, quality), view))
        if view == "prediction":
            self._score(run, index, image)

    def settle(self, run: Run) -> bool:
        """Wait until a run's steps are encoded and, where all its images are exact, scored.

        Args:
            run: the run.

        Returns:
            Whether its scores are complete: a meter that has to be loaded first takes longer than a run should wait.
        """
        self.flush()
        if not run.steps or run.inexact or not _has_scores(run):
            return True
        self.scorer.finish(run.id, run.steps)
        return self.scorer.drain(UNATTENDED_PATIENCE if jupyter.is_unattended() else PATIENCE)

    def end(self, run: Run, seconds: float) -> None:
        """End a run, in its ``state``.

        Args:
            run: the run.
            seconds: how long it took.
        """
        final = run.trace.image if run.state == "done" and run.trace is not None and run.has_images else None
        image = None if final is None else images.png(final)
        note = None if run.trace is None else image_note_of(run.trace)
        state: State = "done" if run.state == "done" else "failed" if run.state == "failed" else "stopped"
        message = end_message(run.id, state, run.steps, seconds, run.error or None, image, note)
        message = message if run.trace is None else with_video(message, run.trace)

        def send() -> None:
            self._outbox.end(message)
            self._keep(run)

        self._later(send)

    def update_notes(self, run: Run) -> None:
        """Publish the notes of a run as they are by now.

        Args:
            run: the run.
        """

        def send() -> None:
            if run.payload is not None and run.trace is not None:
                message = with_notes(run.payload.run, run.trace)
                run.payload = replace(run.payload, run=message)
                self._outbox.restate(message)

        self._later(send)

    def keep(self, run: Run) -> None:
        """Keep the messages of a run as they are by now, to show it again.

        Args:
            run: the run; nothing happens unless the page shows it.
        """
        self._later(lambda: self._keep(run))

    def _keep(self, run: Run) -> None:
        payload = self._outbox.payload()
        if payload is not None and payload.run.content["run"] == run.id:
            run.payload = payload

    def show(self, run: Run) -> None:
        """Show a finished run again; it is scored again if the concepts have changed since.

        Args:
            run: a run with messages.
        """

        def send() -> None:
            # Read here, in its turn: new notes, or the run's very end, may still be queued before this.
            assert run.payload is not None  # only such runs are kept
            is_video = run.trace is not None and run.trace.frame_count > 1
            self.scorer.begin(run.id, run.trace if is_video else None)
            self._outbox.show(run.payload)

        self._later(send)
        if run.has_images and not run.inexact:
            self.score(run)

    def score(self, run: Run) -> None:
        """Score all images of a run.

        Args:
            run: a run whose images are all exact.
        """
        assert run.trace is not None
        if not _has_scores(run):
            return
        if run.trace.frame_count == 1:
            for index, image in enumerate(run.trace.frames("prediction")):
                self._score(run, index, image)
        self._later(lambda: self.scorer.finish(run.id, run.steps))
        if run.trace.frame_count > 1:  # scores that the trace has spare decoding it again
            for index in range(run.steps):
                self._score(run, index, None)

    def snapshot(self) -> bytes:
        """Pack the current run for a saved notebook.

        Returns:
            The packed run; b"" before the first.
        """
        self.flush()
        payload = self._outbox.payload()
        return b"" if payload is None else snapshot(payload.messages())

    def recorded(self, run: Run, trace: Trace, unknown: Collection[str]) -> bool:
        """Publish a whole run that was recorded elsewhere.

        Args:
            run: the run.
            trace: its trace; images that it lacks are decoded.
            unknown: the words of its prompt that the model was never trained on.

        Returns:
            Whether its scores are complete.
        """
        run.has_images = "prediction" in views_of(trace)
        for index, shown in enumerate(recorded_images(trace)):
            if index == 0:
                self.begin(run, trace, shown, recorded_settings(trace), unknown)
            self.step(run, trace, shown, 0.0)
        if not run.has_images:
            run.inexact.clear()
        complete = self.settle(run)
        self.end(run, 0.0)
        return complete

    def flush(self) -> None:
        """Wait until everything handed over is in the outbox."""
        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._encoder.submit(lambda: None).result()

    def close(self) -> None:
        """End the threads. Returns at once."""
        self.scorer.close()
        self._encoder.shutdown(wait=False, cancel_futures=True)

    def _score(self, run: Run, index: int, image: NDArray[np.uint8] | None) -> None:
        """Through the encoder's queue: the page takes scores only of a run that it has. None: decoded on use."""
        if not _has_scores(run):
            return
        if image is None or image.ndim == 4:
            assert run.trace is not None
            frames = StepVideo(run.trace, index, image)
        else:
            frames = image
        self._later(lambda: self.scorer.add(run.id, index, frames))

    def _later(self, job: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                job()
            except Exception:
                log.exception("a step could not be published")

        with contextlib.suppress(RuntimeError):  # closed in the meantime
            self._encoder.submit(guarded)


def _has_scores(run: Run) -> bool:
    """Scores are of predicted images, which runs without noise levels do not have."""
    return run.trace is None or not lacks_noise_levels(run.trace.meta)
