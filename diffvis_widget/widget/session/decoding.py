"""The exact pictures of steps that were shown as previews, decoded when the model is not wanted for anything else."""

from __future__ import annotations

import logging
from typing import Any

from diffvis_widget.widget import jupyter as kernel

from .publisher import Publisher
from .run import LOCK_POLL, Run
from .state import Show

log = logging.getLogger(__name__)

QUICK = 1.0  # pictures that can be decoded in this many seconds are decoded before a run is called done


class IdleDecoder:
    """Decodes for one session. ``focus`` is the step that somebody looks at: it comes first, then its neighbours."""

    def __init__(self, publisher: Publisher, show: Show) -> None:
        self._publisher, self._show = publisher, show
        self.focus = 0

    def quickly(self, run: Run, pipe: Any) -> None:
        """The rest of the pictures, if that takes a moment only, or nobody watches: idle time may never come then."""
        while run.inexact and (len(run.inexact) * run.decode_seconds < QUICK or kernel.is_unattended()):
            run.check()
            self._one(run, pipe)

    def next(self, run: Run, pipe: Any) -> None:
        """One picture, if the model is free; after the last one the run is scored and kept for a saved notebook."""
        from diffvis_widget.tracer import denoiser_lock

        lock = denoiser_lock(pipe)
        if not lock.acquire(timeout=LOCK_POLL):
            return
        try:
            self._one(run, pipe)
        except Exception:
            run.inexact.clear()  # the previews stay
            log.exception("a prediction could not be decoded")
            return
        finally:
            lock.release()
        if not run.inexact:
            self._publisher.score(run)
            self._publisher.settle(run)
            self._publisher.keep(run)
            self._show(_snapshot=self._publisher.snapshot())

    def _one(self, run: Run, pipe: Any) -> None:
        from diffvis_widget.tracer import decode

        assert run.trace is not None  # a run without steps has no inexact ones
        index = min(run.inexact, key=lambda step: (abs(step - self.focus), step))
        image = decode(pipe, run.trace.records[index].prediction[None])[0]
        run.trace.keep_frame("prediction", index, image)
        run.inexact.discard(index)
        self._publisher.frame(run, index, image)
