"""The images of each step of a run, made while it goes on.

The images of the built-in model are all decoded exactly, in a thread beside the denoiser and at most `LAG` steps behind
it; their noisy images are linear previews, which are decoded in idle time. Other models are decoded between two steps,
as far as a budget of time allows; the rest of their images are linear previews, which are decoded after the run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffvis_widget.processor_threads import single_threaded
from diffvis_widget.shipped import has_scenes_mark
from diffvis_widget.wire.messages import StepImages

if TYPE_CHECKING:
    from diffvis_widget.traces import Step, Trace

# Exact decodes may take this share of the time spent so far, and this many seconds in any case.
DECODE_SHARE = 0.25
DECODE_SECONDS = 0.3
LAG = 2  # steps that the images may be behind the denoiser


@dataclass
class DecodeBudget:
    """Decides when an exact decode is cheap enough to be done during the run.

    Attributes:
        started: when the run began, on the performance counter.
        spent: seconds spent on decodes.
        longest: seconds of the longest decode after the first.
    """

    started: float = field(default_factory=time.perf_counter)
    spent: float = 0.0
    longest: float = 0.0

    def allows(self) -> bool:
        """Decide about another decode.

        Returns:
            Whether it fits into the budget.
        """
        elapsed = time.perf_counter() - self.started
        return not self.spent or self.spent + self.longest <= DECODE_SECONDS + DECODE_SHARE * elapsed

    def spend(self, seconds: float) -> None:
        """Record a decode.

        Args:
            seconds: how long it took.
        """
        # The first decode warms the VAE up and says little about the next ones.
        self.longest = seconds if self.spent == self.longest else max(self.longest, seconds)
        self.spent += seconds


class Camera:
    """Makes the images of each step of a run: exact ones of the built-in model, of others as far as a budget allows.

    Args:
        pipe: the pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        from diffvis_widget.tracer import Preview

        self._preview, self._budget = Preview(pipe), DecodeBudget()
        self._is_cheap = has_scenes_mark(pipe)

    def images(self, trace: Trace, step: Step, hurry: bool = False) -> StepImages:
        """The images of a step that was just finished.

        Args:
            trace: the trace, with that step.
            step: the step.
            hurry: whether a preview is enough: the run is being stopped.

        Returns:
            The predicted and the noisy image.
        """
        record = trace.records[step.index]
        exact = not self._budget.spent or (not hurry and (self._is_cheap or self._budget.allows()))
        if exact:
            before = time.perf_counter()
            prediction = self._preview.fit(record.prediction, trace.meta.get("frames_per_latent"))
            self._budget.spend(time.perf_counter() - before)
        else:
            prediction = self._linear(record.prediction)
        latents = self._linear(record.latents.astype(np.float32) * np.float32(record.visible))
        return StepImages(step, prediction, latents, exact, self._budget.longest, exact_latents=False)

    def _linear(self, latents: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """The linear preview of latents, enlarged smoothly: squares would look like a part of the image."""
        if latents.ndim == 4:
            return np.stack([self._linear(latents[:, frame]) for frame in range(latents.shape[1])])
        image = self._preview.image(latents)
        down, right = image.shape[0] // latents.shape[1], image.shape[1] // latents.shape[2]
        small = Image.fromarray(image[down // 2 :: down, right // 2 :: right])
        return np.asarray(small.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC))


class LiveImages:
    """Makes and publishes the images of a run. Leaving the context waits for all of them.

    Args:
        pipe: the pipeline.
        publish: called with the trace, the images of a step and the seconds from the start of the run to that step, in
            the order of the steps.
        stop: set when the run is being stopped: then previews are enough.
    """

    def __init__(self, pipe: Any, publish: Callable[[Trace, StepImages, float], None], stop: threading.Event) -> None:
        from diffvis_widget.tracer.locks import decodes_beside_denoiser

        self._camera, self._publish, self._stop = Camera(pipe), publish, stop
        beside = decodes_beside_denoiser(pipe)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="diffvis-decode") if beside else None
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> LiveImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            while self._waiting:
                with contextlib.nullcontext() if error is None else contextlib.suppress(Exception):
                    self._waiting.popleft().result()
        finally:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)

    def add(self, trace: Trace, step: Step, elapsed: float) -> None:
        """Make the images of a finished step; waits while more than `LAG` steps have none yet.

        What making or publishing an image raises is raised here, or where a later step is added, or at the end.

        Args:
            trace: the trace, with that step.
            step: the step.
            elapsed: seconds since the run began.
        """
        if self._thread is None:
            self._publish(trace, self._camera.images(trace, step), elapsed)
            return
        while self._waiting and (len(self._waiting) > LAG or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._make, trace, step, elapsed))

    def _make(self, trace: Trace, step: Step, elapsed: float) -> None:
        with single_threaded():
            images = self._camera.images(trace, step, hurry=self._stop.is_set())
        self._publish(trace, images, elapsed)
