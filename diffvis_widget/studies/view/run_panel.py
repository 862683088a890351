"""Opens the run of a row in a DiffVis: from its trace file, or by running it again."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import Any

from ipywidgets import HTML, VBox

from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.studies.plan import Plan
from diffvis_widget.studies.row_maker import load_model, thumbnail, torch_threads
from diffvis_widget.traces import Trace
from diffvis_widget.widget.widget import DiffVis

_SAME = "Run again with the stored prompt, seed and settings; the image equals the stored one."
_OTHER = (
    "Run again with the stored prompt, seed and settings. The image differs from the stored one: another processor, "
    "number of threads or version of a library changes the last bits of a run."
)


class Superseded(Exception):
    """Another row was opened meanwhile."""


class RunPanel(VBox):
    """The open run.

    Args:
        plan: Makes the plan of the study.
        threads: Number of torch's threads.
        model: A pipeline, a name or a function that makes one; None for the built-in model.
        is_known: Whether that is the model of the study.
        read_trace: Reads the trace of a row from its file; None where there is none.
    """

    def __init__(
        self,
        plan: Callable[[], Plan],
        threads: int,
        model: Any,
        is_known: bool,
        read_trace: Callable[[int], Trace | None],
    ) -> None:
        self._plan, self._threads, self._read_trace = plan, threads, read_trace
        self._model, self._is_known = model, is_known
        self._pipe: Any = None
        self._running = threading.Lock()
        self._latest = 0
        self._note = HTML()
        self.widget: DiffVis | None = None
        self.thread: threading.Thread | None = None
        super().__init__([self._note], layout={"display": "none", "flex": "1 1 420px", "min_width": "300px"})

    def open_row(self, row: int, title: str, row_fingerprint: str, stored: bytes, concepts: list[str]) -> None:
        """Open the run of a row. Returns at once where it has to run again.

        Args:
            row: Its number.
            title: What it is.
            row_fingerprint: That of its model.
            stored: Its thumbnail.
            concepts: Words that it was scored for.
        """
        self._latest += 1
        turn = self._latest
        self.layout.display = ""
        if (trace := self._read_trace(row)) is not None:
            self._show(turn, trace, title, "From its trace file.", concepts)
            return
        if not self._is_known:
            self._say(
                turn, title,
                "The study keeps no trace of this row and does not know its model: study.show(pipe) runs it again; "
                'dv.study(..., keep_traces="compact") keeps traces.',
            )  # fmt: skip
            return
        self._say(turn, title, "The study keeps no trace of this row. Loading the model to run it again …")
        arguments = turn, row, title, row_fingerprint, stored, concepts
        self.thread = threading.Thread(target=self._run_again, args=arguments, name="diffvis study run", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End a run under way, and close the widgets."""
        self._latest += 1
        if self.widget is not None:
            self.widget.close()
        super().close()

    def _run_again(self, turn: int, row: int, title: str, expected: str, stored: bytes, concepts: list[str]) -> None:
        from diffvis_widget.tracer import fingerprint, hide_progress_bars, private_copy, trace

        try:
            with self._running:
                if turn != self._latest:
                    return
                if self._pipe is None:
                    self._pipe = private_copy(load_model(self._model))
                    hide_progress_bars(self._pipe)
                if (actual := fingerprint(self._pipe)) != expected:
                    self._say(turn, title, f"This is not the model of the study: {actual}, not {expected}.")
                    return
                plan = self._plan()
                task = plan.task(row)
                prompt, arguments = plan.run_of(task)
                arguments["keep"] = "layers"
                done = 0

                def on_step(_: Any) -> None:
                    nonlocal done
                    if turn != self._latest:
                        raise Superseded
                    done += 1
                    self._say(turn, title, f"Running it again: step {done}")

                with torch_threads(self._threads):
                    repeated = trace(self._pipe, prompt, seed=task.seed, on_step=on_step, **arguments)
                self._show(turn, repeated, title, _SAME if thumbnail(repeated.image) == stored else _OTHER, concepts)
        except Superseded:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader sees it
            self._say(turn, title, f"It cannot be run again: {type(error).__name__}: {error}")

    def _show(self, turn: int, trace: Trace, title: str, note: str, concepts: list[str]) -> None:
        if turn != self._latest:
            return
        has_meter = trace.scores is not None or is_scenes_model(trace.meta.get("fingerprint"))
        widget = DiffVis(trace, concepts=concepts if has_meter else ())
        before, self.widget = self.widget, widget
        self._say(turn, title, note)
        self.children = [self._note, widget]
        if before is not None:
            before.close()

    def _say(self, turn: int, title: str, text: str) -> None:
        if turn == self._latest:
            self._note.value = (
                f'<div role="status" style="line-height:1.4"><b>{html.escape(title)}</b><br>'
                f"<span>{html.escape(text)}</span></div>"
            )
