"""Decodes the exact images of steps that were shown as previews, while nothing else wants the model."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import numpy as np

from diffvis_widget.widget import jupyter
from diffvis_widget.wire.video_messages import shown_frames

from .history import History
from .publisher import Publisher
from .run import LOCK_POLL, Run
from .state import SessionState

log = logging.getLogger(__name__)

QUICK = 1.0  # seconds: a run is not called done before the images that can be decoded in this time


class IdleDecoder:
    """Decodes for one session.

    Args:
        state: the session's state.
        publisher: gets the images.
        history: notified when a run has grown.

    Attributes:
        focus: the step that the page shows: it comes first, then its neighbours.
    """

    focus: int

    def __init__(self, state: SessionState, publisher: Publisher, history: History) -> None:
        self._state, self._publisher, self._history = state, publisher, history
        self.focus = 0

    def decode_quickly(self, run: Run, pipe: Any) -> None:
        """Decode all images that are missing, if that takes a moment only or if no idle time may ever come.

        Args:
            run: the run, whose denoiser this thread holds.
            pipe: its pipeline.

        Raises:
            Cancelled: the run was stopped.
        """
        unattended = jupyter.is_unattended()
        while run.inexact and (len(run.inexact) * run.decode_seconds < QUICK or unattended):
            run.check()
            self._decode(run, pipe)
        while run.inexact_latents and unattended:
            run.check()
            self._decode_latents(run, pipe)

    def decode_next(self, run: Run, pipe: Any) -> None:
        """Decode one image if no run uses the model; after the last one, score the run and save it in the notebook.

        Args:
            run: a finished run with images that are missing.
            pipe: its pipeline.
        """
        from diffvis_widget.tracer.locks import decoder_lock, denoiser_lock

        try:
            # A run of another widget comes first, also where this model decodes beside its denoiser.
            denoiser, lock = denoiser_lock(pipe), decoder_lock(pipe)
            if not denoiser.acquire(timeout=LOCK_POLL):
                return
            denoiser.release()
            if not lock.acquire(timeout=LOCK_POLL):
                return
            predictions = bool(run.inexact)
            try:
                decode = self._decode if predictions else self._decode_latents
                decode(run, pipe)
            finally:
                lock.release()
        except Exception:
            run.inexact.clear()  # the previews stay
            run.inexact_latents.clear()
            log.exception("an image could not be decoded")
            return
        if not (run.inexact if predictions else run.inexact_latents):
            if predictions:
                self._publisher.score(run)
                self._publisher.settle(run)
            self._publisher.keep(run)
            self._state.set_traits(_snapshot=self._publisher.snapshot())
            self._history.trim()

    def _decode(self, run: Run, pipe: Any) -> None:
        from diffvis_widget.tracer import decode

        assert run.trace is not None  # a run without steps has no previews
        index = self._nearest(run.inexact)
        image = decode(pipe, run.trace.records[index].prediction[None])[0]
        if run.trace.frame_count == 1:  # the decoded videos of all steps would fill the memory
            run.trace.keep_frame("prediction", index, image)
        else:
            image = shown_frames(run.trace, image)
        run.inexact.discard(index)
        self._publisher.frame(run, index, image)

    def _decode_latents(self, run: Run, pipe: Any) -> None:
        from diffvis_widget.tracer import decode

        assert run.trace is not None
        index = self._nearest(run.inexact_latents)
        record = run.trace.records[index]
        image = decode(pipe, (record.latents.astype(np.float32) * np.float32(record.visible))[None])[0]
        if run.trace.frame_count == 1:
            run.trace.keep_frame("latents", index, image)
        else:
            image = shown_frames(run.trace, image)
        run.inexact_latents.discard(index)
        self._publisher.frame(run, index, image, "latents")

    def _nearest(self, steps: Collection[int]) -> int:
        return min(steps, key=lambda step: (abs(step - self.focus), step))
