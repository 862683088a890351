"""Makes the rows of a study in this process, one after the other."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .parts import PartWriter
from .plan import Batch
from .row_maker import RowMaker

_FAILURES = 10


class Interrupt:
    """Whether Ctrl-C was pressed: the first one sets `requested`, the second one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take Ctrl-C as a request to stop after the row. Only the main thread can.

        Yields:
            Nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _on_interrupt(self, *_: Any) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Progress:
    """A bar with rows per hour and the time left.

    Args:
        total: Number of rows.
        done: Number of rows that were there before.
        shown: Whether to show it.
    """

    def __init__(self, total: int, done: int, shown: bool) -> None:
        from tqdm.auto import tqdm

        self._began = time.monotonic()
        self._made = 0
        self._bar = tqdm(
            total=total,
            initial=done,
            desc="study",
            unit="row",
            disable=not shown,
            bar_format="{desc}: {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} rows, {remaining} left{postfix}",
        )

    def add(self, rows: int, failed: int) -> None:
        """Count rows.

        Args:
            rows: Number of rows that were made since.
            failed: Number of rows with an error so far.
        """
        self._made += rows
        per_hour = 3600 * self._made / max(time.monotonic() - self._began, 1e-9)
        errors = f", {failed} failed" if failed else ""
        self._bar.set_postfix_str(f"{per_hour:,.0f} rows per hour{errors}", refresh=False)
        self._bar.update(rows)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def run_rows(maker: RowMaker, batches: Iterable[Batch], writer: PartWriter, progress: Progress) -> bool:
    """Make and store rows.

    Args:
        maker: Makes them.
        batches: Which of them are run together.
        writer: Stores them.
        progress: Counts them.

    Returns:
        False if Ctrl-C stopped it before the last batch.

    Raises:
        OSError: Rows cannot be written.
        RuntimeError: The first rows failed, all of them.
    """
    interrupt = Interrupt()
    made = failed = 0
    errors: str | None = None
    finished = True
    with interrupt.watching():
        try:
            for batch in batches:
                if interrupt.requested:
                    finished = False
                    break
                for values in maker.make_batch(batch):
                    writer.add(values)
                    made, failed = made + 1, failed + ("error" in values)
                    errors = values.get("error")
                progress.add(len(batch.wanted), failed)
                if made == failed >= _FAILURES:
                    raise RuntimeError(
                        f"the study stopped because its first {made} rows failed; they are stored with their errors. "
                        f"The last one: {errors}"
                    )
        except KeyboardInterrupt:  # the second one: the row under way is lost
            finished = False
        finally:
            progress.close()
            writer.flush()
    return finished
