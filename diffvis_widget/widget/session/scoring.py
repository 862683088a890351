"""Concept scores while a run goes on: exactly decoded pictures in, rows of scores out, in a thread of their own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from diffvis_widget.traces import ConceptScores
from diffvis_widget.wire.messages import ScoresPayload
from diffvis_widget.wire.trace_messages import stored_scores

from .outbox import Outbox
from .threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diffvis_widget.concepts import ConceptMeter
    from diffvis_widget.traces import Trace

log = logging.getLogger(__name__)

SCENES_LABEL = "scenes CLIP"


@dataclass
class _Table:
    """The scores of one run for one list of concepts, as far as they are known."""

    concepts: list[str] = field(default_factory=list)
    cosine: list[NDArray[np.float32]] = field(default_factory=list)
    null_band: list[NDArray[np.float32]] = field(default_factory=list)


class Scorer:
    """ScoresPayload the pictures of the current run in the order of its steps and gives the rows to the stream.

    ``tell`` gets a sentence when the meter cannot be used.
    """

    def __init__(self, outbox: Outbox, tell: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._tell = tell
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffvis-scores")
        self._meter: ConceptMeter | None = None
        self._make: Callable[[], ConceptMeter] | None = None
        self.label: str | None = None
        self.problem = ""  # why nothing is scored; until the next run, or other concepts
        self._run = ""
        self._trace: Trace | None = None
        self._total: int | None = None
        self._frames: dict[int, NDArray[np.uint8]] = {}
        self._concepts: list[str] = []
        self._table = _Table()
        self._last: ScoresPayload | None = None
        self._listeners: list[Callable[[ScoresPayload], None]] = []
        self._telling = threading.RLock()  # who begins to listen hears nothing older after something newer

    def listen(self, listener: Callable[[ScoresPayload], None]) -> None:
        """Call ``listener`` with the scores there are, and again, in the scorer's thread, whenever there are more."""
        with self._telling:
            self._listeners.append(listener)
            if self._last is not None:
                listener(self._last)

    def use(self, make: Callable[[], ConceptMeter] | None, label: str | None) -> None:
        """The meter to score with, made when it is first needed; None scores nothing."""
        with self._lock:
            self._make, self._meter, self.label = make, None, label
            self._table = _Table()

    def meter(self) -> ConceptMeter | None:
        """What scores, made now if it was not needed yet; None where nothing does. Raises what making it raises."""
        with self._lock:
            if self._meter is None and self._make is not None:
                self._meter = self._make()
            return self._meter

    def begin(self, run: str, trace: Trace | None = None) -> None:
        """A run; the scores of all its steps, once they are there, are kept in its ``trace``, and taken from there."""
        with self._lock:
            self._run, self._trace, self._total, self.problem = run, trace, None, ""
            self._frames, self._table = {}, _Table()

    def add(self, run: str, index: int, frame: NDArray[np.uint8]) -> None:
        """The exactly decoded picture of a step."""
        with self._lock:
            if run != self._run:
                return
            self._frames[index] = frame
        self._later()

    def finish(self, run: str, total: int) -> None:
        """The run has ``total`` steps and no more: now it can be said when concepts emerged."""
        with self._lock:
            if run != self._run:
                return
            self._total = total
        self._later(again=True)

    def want(self, concepts: Sequence[str]) -> None:
        with self._lock:
            self._concepts = list(concepts)
            solved, self.problem = bool(self.problem), ""
        if solved:
            self._tell("")
        self._later(again=True)

    def drain(self, timeout: float) -> bool:
        """Wait until what is here is scored; False if that took longer than ``timeout`` seconds."""
        done = threading.Event()
        return self._submit(done.set) and done.wait(timeout)

    def afterwards(self, job: Callable[[], None]) -> None:
        """Call ``job``, in the scorer's thread, when what is here is scored."""
        self._submit(job)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _later(self, again: bool = False) -> None:
        self._submit(lambda: self._score(again))

    def _submit(self, job: Callable[[], None]) -> bool:
        """Leave a job for the thread; False if the scorer was closed in the meantime."""
        try:
            self._thread.submit(job)
        except RuntimeError:
            return False
        return True

    def _score(self, again: bool) -> None:
        try:
            self._score_new(again)
        except Exception as error:  # noqa: BLE001 - any meter may fail in any way; the run must not
            with self._lock:
                self.problem = f"The concepts cannot be measured: {error}"
            self._tell(self.problem)

    def _score_new(self, again: bool) -> None:
        """Score the frames that are here without a gap from the first; ``again`` sends even if nothing is new."""
        with self._lock:
            run, trace, total = self._run, self._trace, self._total
            concepts, table = self._concepts, self._table
            if table.concepts != concepts:
                table = self._table = _Table(concepts)
            ready: list[NDArray[np.uint8]] = []
            while (index := len(table.cosine) + len(ready)) in self._frames:
                ready.append(self._frames[index])
            make = None if self.problem else self._make
        if total is not None and trace is not None and trace.scores is not None and trace.scores.concepts == concepts:
            if kept := stored_scores(trace):
                self._tell_scores(run, kept)
            return
        if make is None or not (ready or (again and table.cosine)):
            return
        if self._meter is None:
            self._meter = make()
            self.label = self._meter.label
        if ready:
            with one_thread() if self.label == SCENES_LABEL else contextlib.nullcontext():
                cosine, null_band = self._meter.scores(np.stack(ready), concepts)
            table.cosine.extend(cosine)
            table.null_band.extend(null_band)
        complete = len(table.cosine) == total
        scores = self._scores(self._meter, table, complete)
        if complete and trace is not None and concepts:
            share = self._meter.share(scores.cosine)
            trace.scores = ConceptScores(
                concepts, scores.cosine, share, scores.null_band, scores.emergence, self._meter.label
            )
        self._tell_scores(run, scores)

    def _tell_scores(self, run: str, scores: ScoresPayload) -> None:
        self._outbox.scores(run, scores)
        with self._telling:
            self._last = scores
            for listener in list(self._listeners):
                try:
                    listener(scores)
                except Exception:
                    log.exception("a function that observes the scores failed")

    def _scores(self, meter: ConceptMeter, table: _Table, complete: bool) -> ScoresPayload:
        from diffvis_widget.concepts import emergence

        cosine, null_band = np.stack(table.cosine), np.stack(table.null_band)
        count = len(table.concepts)
        return ScoresPayload(
            concepts=table.concepts,
            cosine=cosine,
            null_band=null_band,
            share=meter.share(cosine) if count > 1 else None,
            # Where a concept emerges depends on its last value: not known before the end.
            emergence=emergence(cosine, null_band) if complete else np.full(count, np.nan, dtype=np.float32),
            meter=meter.label,
        )
