"""The grid of images: its page requests thumbnails while it scrolls, and sets filters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets as t
from numpy.typing import NDArray

from diffvis_widget import front_end
from diffvis_widget.widget.jupyter import let_page_choose_thread
from diffvis_widget.widget.page.limits import check_message

from .filters import Filters
from .thumbnails import Thumbnails

MOST_THUMBNAILS = 400
"""That one message of the page may ask for."""


class StudyGrid(anywidget.AnyWidget):
    """The grid of images of a study.

    Args:
        table: What the page needs to know of the rows, plain values.
        buffers: int32 and float64 arrays of the same.
        thumbnails: The images.
        check_filters: Checks filters, and returns them as plain values.

    Attributes:
        filters: Filters by column.
        region: What part of the chart the rows pass through, or {}.
        active: Number of the row under the cursor, -1 for none.
        opened: Number of the row that is open, -1 for none.
    """

    _esm = front_end.study()[0]
    _css = front_end.study()[1]

    filters = t.Dict().tag(sync=True)
    region = t.Dict().tag(sync=True)
    active = t.Int(-1).tag(sync=True)
    opened = t.Int(-1).tag(sync=True)

    def __init__(
        self,
        table: Mapping[str, Any],
        buffers: Sequence[NDArray[Any]],
        thumbnails: Thumbnails,
        check_filters: Callable[[Any], Filters],
    ) -> None:
        self._table, self._buffers = dict(table), [array.tobytes() for array in buffers]
        self._thumbnails = thumbnails
        self._check = check_filters
        self._shown: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        super().__init__()
        self.on_msg(self._on_page)
        let_page_choose_thread(self.comm)

    def show(self, indices: NDArray[np.int64]) -> None:
        """Show these rows only.

        Args:
            indices: int64 (n,), places in the table, rising.
        """
        self._shown = indices.astype(np.int32)
        self._send_shown()

    @t.validate("filters")
    def _filters_exist(self, proposal: Any) -> Filters:
        try:
            return self._check(proposal["value"])
        except (TypeError, ValueError) as error:
            raise t.TraitError(str(error)) from None

    def _send_shown(self) -> None:
        self.send({"type": "shown"}, [self._shown.tobytes()])

    def _on_page(self, _: object, content: Any, buffers: object) -> None:
        try:
            check_message(content, buffers)
            match content:
                case {"type": "hello"}:
                    self.send({"type": "table", **self._table}, self._buffers)
                    self._send_shown()
                case {"type": "thumbnails", "rows": list(rows)}:
                    self._send_thumbnails(rows)
                case _:
                    raise ValueError("the page sent a message of another kind")
        except (OSError, TypeError, ValueError) as error:
            self.send({"type": "error", "error": str(error)})

    def _send_thumbnails(self, rows: list[Any]) -> None:
        if len(rows) > MOST_THUMBNAILS or not all(type(row) is int for row in rows):
            raise ValueError(f"thumbnails: the page asks for {MOST_THUMBNAILS} rows or fewer, by their numbers")
        self.send({"type": "thumbnails", "rows": rows}, self._thumbnails.read(rows))
