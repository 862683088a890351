"""Starting, stopping and waiting for the runs of a widget."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from diffvis_widget.arguments import count

from .session.history import RUNS
from .session.run import Run, RunFailed
from .synced_traits import SyncedTraits
from .trait_types import MAX_SEED

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace

    from .session.session import Session

DRAFT_STEPS = 8  # of the run that answers first while a slider is dragged
MAX_SEEDS = RUNS - 3  # so that some other runs stay with them


class RunControls(SyncedTraits):
    """The methods of `DiffVis` that start, stop and wait for runs; the notebook and the page call them.

    Args:
        **traits: values by name.
    """

    _session: Session

    @property
    def trace(self) -> Trace:
        """The latest finished run as data; waits for a run in progress. A stopped run has the steps it got to.

        Raises:
            RunFailed: the run failed; its ``trace`` holds the finished steps.
            RuntimeError: there is no run, or it was stopped before its first step.
        """
        self.wait()
        return self._session.trace()

    def run(self) -> None:
        """Start a run with the traits as they are and return at once. A run in progress is stopped: the latest wins.

        Raises:
            ValueError: the schedule is impossible with so many steps.
            RuntimeError: the widget is closed, or shows a recorded run.
        """
        self.start()

    def stop(self) -> None:
        """Stop the run at its next step; the finished steps are kept. Returns at once."""
        self._session.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is loading, waiting or running.

        An interrupt (the notebook's stop button) stops the run.

        Args:
            timeout: seconds, 0 or more; None waits without limit.

        Returns:
            Whether that happened in time.
        """
        try:
            return self._session.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            raise

    async def arun(self) -> Trace:
        """Run without blocking the event loop. Cancelling stops the run.

        Returns:
            The trace, once the run has ended. Raises what ``trace`` raises.
        """
        self.run()
        try:
            await asyncio.to_thread(self._session.wait)
        except asyncio.CancelledError:
            self.stop()
            raise
        return self._session.trace()

    def seeds(self, n: int) -> list[Trace]:
        """Paint the prompt with several seeds: the widget's own and those after it, one run after the other.

        The page shows their images side by side under Runs, all at the step of the slider; each opens as a run. Waits
        until all are done; Stop on the page ends it, an interrupt too.

        Args:
            n: how many seeds, 1 to 9.

        Returns:
            The traces of the runs that are done, in the order of their seeds: fewer than ``n`` where it was stopped.

        Raises:
            TypeError: ``n`` is no whole number.
            ValueError: ``n`` is out of range, the last seed is too large, or the schedule is impossible with so many
                steps.
            RunFailed: a run failed; its ``trace`` holds the finished steps.
            RuntimeError: the widget is closed, or shows a recorded run.

        Example:
            >>> import diffvis_widget as dv
            >>> widget = dv.DiffVis(prompt=None, steps=2)
            >>> widget.prompt = "a red circle"
            >>> [trace.meta["seed"] for trace in widget.seeds(3)]
            [0, 1, 2]
            >>> widget.close()
        """
        runs = self.start(count("n", n, 1, MAX_SEEDS))
        self.wait()
        for run in runs:
            if run.state == "failed":
                raise RunFailed(run.error, run.trace) from run.cause
        return [run.trace for run in runs if run.state == "done" and run.trace is not None]

    def start(self, seeds: int = 0, *, draft: bool = False) -> list[Run]:
        """Start runs with the traits as they are, and return at once: the page uses this.

        Args:
            seeds: how many seeds to paint one after the other; 0 for a single run.
            draft: True lets a single run of few steps answer first.

        Returns:
            The runs, which wait for their turn.

        Raises:
            TypeError: ``seeds`` is no whole number.
            ValueError: ``seeds`` is out of range, the last seed is too large, or the schedule is impossible.
            RuntimeError: as for ``run``.
        """
        request = self.request()
        number = count("seeds", seeds, 0, MAX_SEEDS)
        if number:
            last = request.seed + number - 1
            if last > MAX_SEED:
                raise ValueError(f"the last of {number} seeds would be {last}: seed must be at most {MAX_SEED}")
            runs = [Run(replace(request, seed=request.seed + i), part="seeds") for i in range(number)]
            self._session.run(*runs)
            self.set_trait("_sheet", [run.id for run in runs])
            return runs
        runs = [Run(request)]
        if draft and request.schedule == "uniform" and request.steps is not None and request.steps > DRAFT_STEPS:
            runs.insert(0, Run(replace(request, steps=DRAFT_STEPS), part="draft"))
        self._session.run(*runs)
        return runs
