"""Runs that are over: shown again, laid beside another one, read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget.wire import encode

from .history import History
from .pipeline import Model
from .publisher import Teller
from .run import Run, explain
from .state import Board, Show

if TYPE_CHECKING:
    from diffvis_widget.traces import Trace


class Kept:
    """Shows them; its methods are called in the worker's thread, ``save_again`` and ``noted`` in any."""

    def __init__(self, board: Board, model: Model, teller: Teller, history: History, show: Show) -> None:
        self._board, self._model, self._teller, self._history, self._show = board, model, teller, history, show

    def again(self, run: Run) -> None:
        """A run of the history."""
        board = self._board
        self._teller.show(run)
        complete = self._teller.settle(run)
        with board.changed:
            board.again = None
            board.latest = board.finished = run
            self._show(status=run.state, error=run.error, _notice="", _snapshot=self._teller.snapshot())
            board.changed.notify_all()
        if not complete:
            self.save_with_scores(run)

    def beside(self, trace: Trace) -> None:
        """A recorded run, for comparison with the one that is shown."""
        board, run = self._board, Run(None, trace=trace, state="done")
        shown: dict[str, Any] = {"_beside": run.id}
        try:
            run.told = encode.told_of(run.id, trace, self._model.unknown(trace.prompt), self._teller.scorer.label)
            self._history.put_beside(run)
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            shown = {"_notice": f"The run to compare with cannot be shown: {cause}"}
        with board.changed:
            if board.to_compare is trace:
                board.to_compare = None
                self._show(**shown)
            board.changed.notify_all()

    def recorded(self, trace: Trace) -> None:
        """The run that a widget without a pipeline was made of."""
        board = self._board
        run, complete = Run(None, trace=trace, state=encode.state_of(trace)), True
        try:
            complete = self._teller.recorded(run, trace, self._model.unknown(trace.prompt))
        except Exception as cause:  # noqa: BLE001 - a damaged or odd trace is told, not lost
            run.state, run.error, run.cause = "failed", explain(cause, 0, None), cause
        with board.changed:
            board.latest = board.finished = run
            if run.steps:
                self._history.add(run)
            snapshot = self._teller.snapshot()
            self._show(status=run.state, error=run.error, _notice="", progress=1.0, _snapshot=snapshot)
            board.changed.notify_all()
        if not complete:
            self.save_with_scores(run)

    def noted(self, trace: Trace) -> None:
        """Tell the page, and what a saved notebook carries, of the notes that a trace has by now."""
        for run in self._history.runs:
            if run.trace is trace:
                self._teller.noted(run)
                self.save_again(run)

    def save_with_scores(self, run: Run) -> None:
        """Once the scores that are still to come are there."""
        self._teller.scorer.afterwards(lambda: self.save_again(run))

    def save_again(self, run: Run) -> None:
        """What came late, scores and notes, belongs into a saved notebook too."""
        board = self._board
        with board.changed:
            if board.latest is not run or board.active is not None or board.closed:
                return
        self._teller.keep(run)
        self._show(_snapshot=self._teller.snapshot())
