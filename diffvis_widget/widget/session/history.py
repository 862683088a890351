"""The runs that a session keeps, so that they can be shown again and laid side by side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .run import Run

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

RUNS = 8
BYTES = 2 * 1024**3


class History:
    """The last RUNS runs that have something to show, the newest always, older ones while all fit into BYTES.

    A run of ``beside`` is kept beside these for as long as the session lives. Every method may be called in any thread.
    """

    def __init__(self, runs: int = RUNS, limit: int = BYTES) -> None:
        self._most, self._limit = runs, limit
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._beside: Run | None = None

    def add(self, run: Run) -> None:
        with self._lock:
            if run in self._runs:
                return
            self._runs = [*self._runs, run][-self._most :]
            sizes = [size(kept.trace) for kept in self._runs]
            while len(self._runs) > 1 and sum(sizes) > self._limit:
                del self._runs[0], sizes[0]

    def put_beside(self, run: Run | None) -> None:
        with self._lock:
            self._beside = run

    @property
    def runs(self) -> list[Run]:
        """Oldest first; one that was laid beside them comes before all."""
        with self._lock:
            return [*([self._beside] if self._beside else []), *self._runs]

    def find(self, run: str) -> Run:
        """The run with this id.

        Raises:
            ValueError: it is not kept.
        """
        for known in self.runs:
            if known.id == run:
                return known
        raise ValueError("this run is not in the kernel any more: run it again")


def size(trace: Trace | None) -> int:
    """Bytes of a trace's arrays, its decoded pictures left out."""
    if trace is None:
        return 0
    total = 0
    for record in trace.records:
        parts = [record.latents, record.prediction, *record.maps, *(record.negative or ())]
        parts += [] if record.guidance is None else [record.guidance]
        total += sum(part.nbytes for part in parts)
    return total
