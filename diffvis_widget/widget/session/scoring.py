"""Concept scores during a run: exactly decoded images in, rows of scores out, in a thread of their own."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from diffvis_widget.arguments import function
from diffvis_widget.processor_threads import single_threaded
from diffvis_widget.traces import ConceptScores
from diffvis_widget.wire.messages import ScoresPayload
from diffvis_widget.wire.trace_messages import scores_payload

from .outbox import Outbox

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)

SCENES_LABEL = "scenes CLIP"
LIVE_BATCH = 3  # images of a fast run that are scored together: each then takes half the time
QUICK_STEP = 0.25  # seconds between two images of a fast run


@dataclass
class _Table:
    """The scores of one run for one list of concepts, as far as they are computed.

    Attributes:
        concepts: the K concepts.
        cosine: a row (K,) for each step.
        null_band: a row (2,) for each step.
        by_frame: for each step of a video, (F, K), of which the row is the mean.
    """

    concepts: list[str] = field(default_factory=list)
    cosine: list[NDArray[np.float32]] = field(default_factory=list)
    null_band: list[NDArray[np.float32]] = field(default_factory=list)
    by_frame: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, meter: ConceptMeter, image: NDArray[np.uint8]) -> None:
        """Scores the next step of a video.

        Args:
            meter: the meter.
            image: uint8 (F, H, W, 3).
        """
        cosine, null_band = meter.scores(image, self.concepts)
        self.by_frame.append(cosine)
        self.cosine.append(cosine.mean(axis=0))
        self.null_band.append(null_band.mean(axis=0))


class Scorer:
    """Scores the images of the current run in the order of its steps and hands the rows to the outbox.

    Args:
        outbox: gets the scores.
        show_notice: called with a sentence when the meter cannot be used, and with "" when it can be again.

    Attributes:
        label: the name of the meter; None without one.
        problem: why nothing is scored, until the next run or other concepts; "" where nothing is wrong.
    """

    label: str | None
    problem: str

    def __init__(self, outbox: Outbox, show_notice: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._show_notice = show_notice
        self._lock = threading.Lock()  # held for moments only: setting the trait `concepts` takes it
        self._making = threading.Lock()  # held while a meter is made
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffvis-scores")
        self._meter: ConceptMeter | None = None
        self._make: Callable[[], ConceptMeter] | None = None
        self.label = None
        self.problem = ""
        self._run = ""
        self._trace: Trace | None = None
        self._total: int | None = None
        self._frames: dict[int, NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]] = {}
        self._arrived = self._interval = math.inf  # when the last image came, and how long after the one before it
        self._concepts: list[str] = []
        self._table = _Table()
        self._last: ScoresPayload | None = None
        self._listeners: list[Callable[[ScoresPayload], None]] = []
        self._notifying = threading.RLock()  # a new listener gets nothing older after something newer

    def listen(self, callback: Callable[[ScoresPayload], None]) -> None:
        """Call a function with the scores so far, and again, in the scorer's thread, whenever there are more.

        Args:
            callback: the function.

        Raises:
            TypeError: callback is no function.
        """
        function("callback", callback, "a function of the scores")
        with self._notifying:
            self._listeners.append(callback)
            if self._last is not None:
                callback(self._last)

    def use(self, make: Callable[[], ConceptMeter] | None, label: str | None) -> None:
        """Choose the meter.

        Args:
            make: makes it when it is first needed; None scores nothing.
            label: its name; None without a meter.
        """
        with self._lock:
            self._make, self._meter, self.label = make, None, label
            self._table = _Table()

    def use_scenes_meter(self) -> None:
        """Choose the meter of the scenes model."""
        from diffvis_widget.concepts import ConceptMeter

        self.use(ConceptMeter, SCENES_LABEL)

    def meter(self) -> ConceptMeter | None:
        """The meter, made now if it was not needed yet. Raises what making it raises.

        Returns:
            The meter; None without one.
        """
        meter, make = self._chosen()
        if meter is not None or make is None:
            return meter
        with self._making:
            meter, make = self._chosen()  # another thread may have made it in the meantime
            if meter is None and make is not None:
                meter = make()
                with self._lock:
                    if self._make is make:
                        self._meter, self.label = meter, meter.label
            return meter

    def _chosen(self) -> tuple[ConceptMeter | None, Callable[[], ConceptMeter] | None]:
        with self._lock:
            return self._meter, self._make

    def begin(self, run: str, trace: Trace | None = None) -> None:
        """Start a new run.

        Args:
            run: its id.
            trace: gets the scores of all steps once they are complete, and gives them where it has them already.
        """
        with self._lock:
            self._run, self._trace, self._total, self.problem = run, trace, None, ""
            self._frames, self._table = {}, _Table()
            self._arrived = self._interval = math.inf

    def add(self, run: str, index: int, frame: NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]) -> None:
        """Add the exactly decoded image of a step.

        Args:
            run: the id of the run; nothing happens for another one than the current.
            index: the step.
            frame: uint8 (H, W, 3); of a video, a function that returns (F, H, W, 3), called each time it is scored:
                the images of all steps would fill the memory.
        """
        with self._lock:
            if run != self._run:
                return
            self._frames.setdefault(index, frame)
            now = time.monotonic()
            self._interval, self._arrived = abs(now - self._arrived), now
        self._schedule()

    def finish(self, run: str, total: int) -> None:
        """Say that a run has no more steps: now it is known when concepts emerged.

        Args:
            run: the id of the run; nothing happens for another one than the current.
            total: how many steps it has.
        """
        with self._lock:
            if run != self._run:
                return
            self._total = total
        self._schedule(resend=True)

    @property
    def concepts(self) -> list[str]:
        """The concepts that are scored now."""
        with self._lock:
            return list(self._concepts)

    def set_concepts(self, concepts: Sequence[str]) -> None:
        """Score other concepts from now on, those of the current run's finished steps too.

        Args:
            concepts: words or phrases.
        """
        with self._lock:
            self._concepts = list(concepts)
            solved, self.problem = bool(self.problem), ""
        if solved:
            self._show_notice("")
        self._schedule(resend=True)

    def drain(self, timeout: float) -> bool:
        """Wait until everything that was added is scored.

        Args:
            timeout: seconds.

        Returns:
            Whether that happened in time.
        """
        done = threading.Event()
        return self._submit(done.set) and done.wait(timeout)

    def afterwards(self, job: Callable[[], None]) -> None:
        """Call a function, in the scorer's thread, once everything that was added is scored.

        Args:
            job: the function.
        """
        self._submit(job)

    def close(self) -> None:
        """End the thread. Returns at once."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _schedule(self, resend: bool = False) -> None:
        self._submit(lambda: self._score(resend))

    def _submit(self, job: Callable[[], None]) -> bool:
        """Leave a job for the thread; False if the scorer was closed in the meantime."""
        try:
            self._thread.submit(job)
        except RuntimeError:
            return False
        return True

    def _score(self, resend: bool) -> None:
        try:
            self._score_new(resend)
        except Exception as error:  # noqa: BLE001 - a meter may fail in any way; the run must not
            with self._lock:
                self.problem = f"The concepts cannot be measured: {error}"
            self._show_notice(self.problem)

    def _score_new(self, resend: bool) -> None:
        """Score the frames that follow each other from the first on; ``resend`` sends even if nothing is new.

        During a fast run, the scores lag by up to ``LIVE_BATCH`` - 1 images: scoring them together takes less time from
        the denoiser. The first image is scored at once, and whatever is left when the run ends.
        """
        with self._lock:
            run, trace, total = self._run, self._trace, self._total
            concepts, table = self._concepts, self._table
            if table.concepts != concepts:
                table = self._table = _Table(concepts)
            ready: list[NDArray[np.uint8] | Callable[[], NDArray[np.uint8]]] = []
            while (index := len(table.cosine) + len(ready)) in self._frames:
                ready.append(self._frames[index])
            live = total is None and not resend and bool(table.cosine) and self._interval < QUICK_STEP
            usable = self._make is not None and not self.problem
        if total is not None and trace is not None and trace.scores is not None and trace.scores.concepts == concepts:
            if resend and (stored := scores_payload(trace.scores)):
                self._send(run, stored)
            return
        if not usable or not (ready or (resend and table.cosine)) or (live and len(ready) < LIVE_BATCH):
            return
        meter = self.meter()
        if meter is None:
            return
        images = [image for image in ready if isinstance(image, np.ndarray)]
        with single_threaded() if meter.label == SCENES_LABEL else contextlib.nullcontext():
            if images:
                cosine, null_band = meter.scores(np.stack(images), concepts)
                table.cosine.extend(cosine)
                table.null_band.extend(null_band)
            for image in ready:
                if not isinstance(image, np.ndarray):
                    table.add(meter, image())
        complete = len(table.cosine) == total
        scores = _payload(meter, table, trace, complete)
        if complete and trace is not None and concepts:
            share = meter.share(scores.cosine)
            by_frame = np.stack(table.by_frame) if table.by_frame else None
            parts = scores.cosine, share, scores.null_band, scores.emergence
            trace.scores = ConceptScores(concepts, *parts, meter.label, by_frame, scores.present)
        self._send(run, scores)

    def _send(self, run: str, scores: ScoresPayload) -> None:
        self._outbox.scores(run, scores)
        with self._notifying:
            self._last = scores
            for listener in list(self._listeners):
                try:
                    listener(scores)
                except Exception:
                    log.exception("a function that observes the scores failed")


def _payload(meter: ConceptMeter, table: _Table, trace: Trace | None, complete: bool) -> ScoresPayload:
    from diffvis_widget.concepts import calibrated, emergence

    cosine, null_band = np.stack(table.cosine), np.stack(table.null_band)
    count = len(table.concepts)
    present = calibrated(meter, trace, table.concepts, cosine, null_band)
    return ScoresPayload(
        concepts=table.concepts,
        cosine=cosine,
        null_band=null_band,
        share=meter.share(cosine) if count > 1 else None,
        # Where a concept emerges depends on its last value: it is not known before the end.
        emergence=emergence(cosine, null_band, present) if complete else np.full(count, np.nan, dtype=np.float32),
        meter=meter.label,
        present=present,
    )
