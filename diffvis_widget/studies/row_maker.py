"""Makes the rows of a study: runs the pipeline, measures the run, and keeps what the table holds of it."""

from __future__ import annotations

import errno
import functools
import io
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from diffvis_widget.arguments import shorten
from diffvis_widget.traces import Trace
from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.wire.images import shrink

from .builtin_measures import MeasuredRun
from .conditions import plain_settings
from .measures import Measure
from .plan import Batch, Plan, Task, canonical_json, row_id

if TYPE_CHECKING:
    from collections.abc import Iterator

KeepTraces = Literal["none", "compact", "full"]
THUMBNAIL_BYTES, _THUMBNAIL_SIDE = 5_000, 128
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class RowMaker:
    """Makes rows with one model.

    Args:
        plan: The rows.
        pipe: The pipeline.
        fingerprint: That of the model.
        measures: What to measure.
        traces: Folder of the trace files.
        keep_traces: "none", "compact" or "full".
    """

    def __init__(
        self,
        plan: Plan,
        pipe: Any,
        fingerprint: str,
        measures: Sequence[Measure],
        traces: Path,
        keep_traces: KeepTraces = "none",
    ) -> None:
        from diffvis_widget.tracer import hide_progress_bars, private_copy

        self._plan = plan
        self._pipe = private_copy(pipe)
        hide_progress_bars(self._pipe)
        self._fingerprint = fingerprint
        self.measures = list(measures)
        self._traces = traces
        self._keep_traces = keep_traces
        self._bases: OrderedDict[Any, Trace] = OrderedDict()
        self._most_bases = 1
        self.measured: dict[str, Mapping[str, Any]] = {}
        """What the measures returned for the latest row, by measure."""

    def make_batch(self, batch: Batch) -> list[dict[str, Any]]:
        """Make rows that are run together. Where the pipeline cannot run them so, they are run one after the other.

        Args:
            batch: The rows.

        Returns:
            Values by column of those that are wanted.

        Raises:
            KeyboardInterrupt: The run was interrupted.
            OSError: A trace cannot be written.
        """
        if len(batch.members) == 1:
            return [self.make(row) for row in batch.wanted]
        began = time.perf_counter()
        try:
            traces = self._run_together(batch.members)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL_DISK:
                raise
            return [self.make(row) for row in batch.wanted]
        share = (time.perf_counter() - began) / len(traces)
        pairs = list(zip(batch.members, traces, strict=True))
        self._most_bases = len(pairs)
        for row, trace in pairs:
            task = self._plan.task(row)
            if task.condition == next(iter(self._plan.conditions)):
                self._remember((task.condition, row // len(self._plan.conditions)), trace)
        return [self.make(row, trace, share) for row, trace in pairs if row in batch.wanted]

    def make(self, row: int, trace: Trace | None = None, seconds: float = 0.0) -> dict[str, Any]:
        """Make a row.

        Args:
            row: Its number.
            trace: Its run; None runs it now.
            seconds: How long that run took.

        Returns:
            Values by column; of a failed run with its error.

        Raises:
            KeyboardInterrupt: The run was interrupted.
            OSError: A trace cannot be written.
        """
        task = self._plan.task(row)
        entry = task.entry
        values: dict[str, Any] = {
            "row": row,
            "prompt": entry.prompt,
            "seed": task.seed,
            "condition": task.condition,
            "fingerprint": self._fingerprint,
            **entry.columns,
        }
        began = time.perf_counter() - seconds
        try:
            prompt, arguments = self._plan.run_of(task)
            values["run_prompt"] = prompt
            values["settings"] = canonical_json(plain_settings(arguments))
            values["id"] = row_id(task, prompt, arguments, self._fingerprint)
            trace = trace or self._run(task, task.condition)
            base = functools.partial(self._base_of, task, trace)
            run = MeasuredRun(trace, self._pipe, entry, prompt, task.seed, arguments, base)
            values |= described(run)
            self.measured = {measure.name: measure.values(run) for measure in self.measures}
            for columns in self.measured.values():
                values |= columns
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL_DISK:
                raise
            trace = None
            text = error.args[0] if isinstance(error, KeyError) and error.args else error  # whose str() adds quotes
            values["error"] = f"{type(error).__name__}: {' '.join(str(text).split())}"[:1000]
            values.setdefault("id", row_id(task, entry.prompt, {}, self._fingerprint))
        if trace is not None and self._keep_traces != "none":
            name = f"{values['id'][:32]}.safetensors"
            self._traces.mkdir(exist_ok=True)
            trace.save(self._traces / name, compact=self._keep_traces == "compact")
            values["trace_file"] = f"{self._traces.name}/{name}"
        values["seconds"] = round(time.perf_counter() - began, 3)
        return values

    def _run_together(self, rows: Sequence[int]) -> list[Trace]:
        from diffvis_widget.tracer.trace_call import trace_batch

        tasks = [self._plan.task(row) for row in rows]
        prompts, settings = zip(*(self._plan.run_of(task) for task in tasks), strict=True)
        arguments = settings[0]
        arguments.setdefault("keep", "layers" if self._keep_traces == "full" else "words")
        return trace_batch(self._pipe, prompts, [task.seed for task in tasks], **arguments)

    def _remember(self, key: Any, trace: Trace) -> None:
        self._bases[key] = trace
        while len(self._bases) > self._most_bases:
            self._bases.popitem(last=False)

    def _run(self, task: Task, condition: str) -> Trace:
        from diffvis_widget.tracer import trace

        prompt, arguments = self._plan.run_of(task, condition)
        arguments.setdefault("keep", "layers" if self._keep_traces == "full" else "words")
        return trace(self._pipe, prompt, seed=task.seed, **arguments)

    def _base_of(self, task: Task, trace: Trace, condition: str | None) -> Trace:
        """The run of another condition with the same prompt and seed; the latest ones are kept."""
        name = condition or next(iter(self._plan.conditions))
        if name not in self._plan.conditions:
            raise ValueError(f"base: there is no condition {name!r}; there are {', '.join(self._plan.conditions)}")
        key = (name, task.row // len(self._plan.conditions))
        if key not in self._bases:
            self._remember(key, trace if name == task.condition else self._run(task, name))
        return self._bases[key]


def described(run: MeasuredRun) -> dict[str, Any]:
    """Describe a run apart from its measures.

    Args:
        run: The run.

    Returns:
        Values of the columns that every study has.
    """
    trace = run.trace
    roles: dict[int, str] = {}
    for word, role in run.row.roles:
        roles |= dict.fromkeys(pick_words(trace.words, word), role)
    return {
        "words": [trace.words[index].text for index in run.words],
        "roles": [roles.get(index) for index in run.words],
        "timesteps": trace.timesteps,
        "sigmas": trace.sigmas,
        "thumbnail": thumbnail(trace.image),
    }


def thumbnail(image: Any) -> bytes:
    """Encode an image as a small WebP.

    Args:
        image: uint8 (H, W, 3).

    Returns:
        A WebP file of 5,000 bytes or fewer.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
        >>> len(thumbnail(noise)) <= 5_000
        True
    """
    data, side = b"", _THUMBNAIL_SIDE
    while True:
        small = shrink(Image.fromarray(image), side)
        for quality in (85, 70, 50, 30, 10):
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=quality, method=4)
            if len(data := buffer.getvalue()) <= THUMBNAIL_BYTES:
                return data
        side //= 2


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run torch with a fixed number of threads, on which the last bits of its results depend.

    Args:
        threads: The number.

    Yields:
        Nothing.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_model(model: Any) -> Any:
    """Load the model of a study.

    Args:
        model: A pipeline; a name for `dv.load`, None for the built-in model; or a function that makes a pipeline.

    Returns:
        The pipeline.

    Raises:
        TypeError: The model is something else, or the function returns no pipeline.
    """
    check_model(model)
    if is_pipeline(model):
        return model
    if model is None or isinstance(model, str):
        from diffvis_widget.loading import load

        return load(model)
    pipe = model()
    if is_pipeline(pipe):
        return pipe
    raise TypeError(f"model must return a diffusers pipeline, not {shorten(pipe)}")


def check_model(model: Any) -> None:
    """Check the type of a model.

    Args:
        model: As for `load_model`.

    Raises:
        TypeError: It is something else.
    """
    if not (is_pipeline(model) or model is None or isinstance(model, str | Callable)):
        raise TypeError(
            f"model must be a pipeline, a name for dv.load, or a function that makes a pipeline, not {shorten(model)}"
        )


def is_pipeline(model: Any) -> bool:
    """Whether a model is a pipeline, not a function that makes one.

    Args:
        model: Any value.

    Returns:
        True for a diffusers pipeline.
    """
    return not isinstance(model, type) and hasattr(model, "scheduler") and hasattr(model, "components")
