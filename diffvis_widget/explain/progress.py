"""How a long computation tells how far it is, and how it is told to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[int, int], object]
"""True shows a progress bar; False shows nothing; a function is called with (done, total) and may raise to stop."""


@contextmanager
def tracking(progress: Progress, total: int, label: str) -> Iterator[Callable[[int], object]]:
    """Gives a function to be called with the number of units just finished."""
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
    """Latents (..., h, w) to evaluate at once: as given, or so many that a U-Net's activations stay moderate."""
    return batch if batch is not None else max(1, min(64, 2**16 // (shape[-2] * shape[-1])))
