"""The runs that a session keeps, to show them again and to compare them."""

from __future__ import annotations

import threading

from diffvis_widget.wire.shipped_run import RUN as SHIPPED

from .run import Run

RUNS = 12  # nine seeds, and some runs before and after them
BYTES = 2 * 1024**3


class History:
    """The last runs with at least one step: the newest always, older ones while all fit into a limit of bytes.

    A comparison run is kept beside these for as long as the session lives. Every method may be called in any thread.

    Args:
        runs: how many runs are kept at most.
        limit: how many bytes they may take together: see `Run.nbytes`.
    """

    def __init__(self, runs: int = RUNS, limit: int = BYTES) -> None:
        self._count, self._limit = runs, limit
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._comparison: Run | None = None

    def add(self, run: Run) -> None:
        """Keep a run that has ended, and drop older ones that no longer fit.

        Args:
            run: the run; nothing changes where it is kept already.
        """
        with self._lock:
            if run not in self._runs:
                self._runs.append(run)
            self._trim()

    def trim(self) -> None:
        """Drop older runs that no longer fit: runs grow after their end, by decoded frames and encoded messages."""
        with self._lock:
            self._trim()

    def _trim(self) -> None:
        self._runs = self._runs[-self._count :]
        sizes = [run.nbytes for run in self._runs]
        while len(self._runs) > 1 and sum(sizes) > self._limit:
            del self._runs[0], sizes[0]

    def set_comparison(self, run: Run | None) -> None:
        """Keep a run for comparison, in the place of the one before.

        Args:
            run: the run; None keeps none.
        """
        with self._lock:
            self._comparison = run

    @property
    def runs(self) -> list[Run]:
        """Oldest first; the comparison run, where there is one, comes before all."""
        with self._lock:
            return [*([self._comparison] if self._comparison else []), *self._runs]

    def find(self, run: str) -> Run:
        """A run by its id.

        Args:
            run: the id.

        Returns:
            The run.

        Raises:
            ValueError: no such run is kept.
        """
        for candidate in self.runs:
            if candidate.id == run:
                return candidate
        if run == SHIPPED:
            raise ValueError("this recorded run is only shown while the model loads: ask the live run after it")
        raise ValueError("this run is not in the kernel any more: run it again")
