"""Progress reports of long computations, which can also cancel them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffvis_widget.arguments import shorten

Progress = bool | Callable[[int, int], object]
"""True shows a progress bar; False shows nothing; a function is called with (done, total) and may raise to cancel."""


def check_progress(progress: Any) -> None:
    """Check the argument ``progress``.

    Args:
        progress: The value.

    Raises:
        TypeError: If it is neither True, False nor a function.
    """
    if not isinstance(progress, bool) and not callable(progress):
        raise TypeError(f"progress must be True, False, or a function of (done, total), not {shorten(progress)}")


@contextmanager
def tracking(progress: Progress, total: int, label: str) -> Iterator[Callable[[int], object]]:
    """Report the progress of a computation.

    Args:
        progress: True for a progress bar; False for nothing; a function of (done, total) that may raise to cancel.
        total: Number of units.
        label: Label of the bar.

    Yields:
        A function to call with the number of units just finished.
    """
    if callable(progress):
        done = 0

        def tell(units: int) -> None:
            nonlocal done
            done += units
            progress(done, total)

        yield tell
    elif progress:
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=label) as bar:
            yield bar.update
    else:
        yield lambda units: None


def batch_size(batch: int | None, shape: tuple[int, ...]) -> int:
    """Choose how many latents to evaluate at once.

    Args:
        batch: The number; None chooses one that keeps a U-Net's activations moderate.
        shape: Shape of the latents, (..., h, w).

    Returns:
        The number, 1 or more.
    """
    return batch if batch is not None else max(1, min(64, 2**16 // (shape[-2] * shape[-1])))
