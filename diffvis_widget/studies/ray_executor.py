"""Makes the rows of a study on a Ray cluster: one model in each actor, which writes its rows itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffvis_widget.arguments import check_names, count, real, shorten

from . import parts
from .jobs import Job, first_rows
from .plan import Batch
from .row_maker import torch_threads

if TYPE_CHECKING:
    from .local_executor import Progress

_TURNS = 4  # blocks of each actor, so that none waits long for the last one of another
PATIENCE = {"RAY_agent_register_timeout_ms": "300000", "RAY_raylet_start_wait_time_s": "300"}
"""How long Ray waits for its own processes to start; its defaults are too short for a busy machine."""


@dataclass(frozen=True)
class RayOptions:
    """Where and how Ray runs a study.

    Attributes:
        address: Of a cluster: "auto" for the one that this machine belongs to; None starts Ray on this machine, unless
            the process is connected already.
        actors: Number of models at work; None for one for each GPU, or each processor core.
        num_cpus: Cores of an actor without a GPU.
        num_gpus: GPUs of an actor; a fraction shares one.
    """

    address: str | None = None
    actors: int | None = None
    num_cpus: float = 1
    num_gpus: float = 0


def check_options(options: Any) -> RayOptions:
    """Check the options of Ray.

    Args:
        options: Values by name, or None.

    Returns:
        The options.

    Raises:
        TypeError: The options are no dictionary, or there is no such option.
        ValueError: A value is out of its range.
    """
    if options is None:
        return RayOptions()
    if not isinstance(options, Mapping):
        raise TypeError(f"executor_options must be a dictionary such as {{'actors': 2}}, not {shorten(options)}")
    check_names("executor_options", options, list(RayOptions.__dataclass_fields__))
    values = dict(options)
    if values.get("actors") is not None:
        count("executor_options: actors", values["actors"])
    for name in ("num_cpus", "num_gpus"):
        real(f"executor_options: {name}", values.get(name, 0), 0, math.inf)
    return RayOptions(**values)


@contextlib.contextmanager
def connected(options: RayOptions) -> Iterator[Any]:
    """Connect to Ray, and disconnect unless the process was connected before.

    Args:
        options: Where.

    Yields:
        The module of Ray.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError('executor="ray" needs Ray: pip install "diffvis-widget[ray]"') from error
    was_connected = ray.is_initialized()
    if not was_connected:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        ray.init(address=options.address, include_dashboard=False if options.address is None else None)
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()


def prepared(ray: Any, job: Job, rows: Sequence[int], options: RayOptions) -> tuple[str, list[Any], dict[str, Any]]:
    """Learn the model's fingerprint and make the first rows, on a machine with what the model needs.

    Args:
        ray: The module of Ray.
        job: The study.
        rows: The first rows of a new study; none of one that exists.
        options: Options of Ray.

    Returns:
        The fingerprint, the rows that were made, and what the measures returned for the last.

    Raises:
        RuntimeError: The first rows failed.
    """
    task = ray.remote(num_cpus=options.num_cpus, num_gpus=options.num_gpus)(_prepare)
    try:
        return ray.get(task.remote(job, list(rows), options.num_gpus > 0))
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None


def run_rows(ray: Any, job: Job, batches: Sequence[Batch], shard: str, progress: Progress, options: RayOptions) -> bool:
    """Make and store rows. Actors that die are replaced, and their rows made again.

    Args:
        ray: The module of Ray.
        job: The study, with its columns.
        batches: Which of them are run together.
        shard: Begins the names of the files.
        progress: Counts the rows of each part.
        options: Options of Ray.

    Returns:
        False if Ctrl-C stopped it.

    Raises:
        OSError: Rows cannot be written.
    """
    if not batches:
        progress.close()
        return True
    actors = options.actors or _actors_that_fit(ray, options)
    rows = sum(len(batch.wanted) for batch in batches)
    blocks = _blocks(batches, min(parts.PART_ROWS, math.ceil(rows / (actors * _TURNS))))
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_items(blocks, override_num_blocks=len(blocks)).map_batches(
        PartMaker,
        batch_size=1,
        # An actor that started first must not queue the blocks of one that is still loading the model.
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(blocks)), max_tasks_in_flight_per_actor=1),
        **({"num_gpus": options.num_gpus} if options.num_gpus else {"num_cpus": options.num_cpus}),
        fn_constructor_kwargs={"job": job, "shard": shard, "on_gpu": options.num_gpus > 0},
    )
    failed = 0
    try:
        for made in dataset.iter_batches(batch_size=None):
            failed += int(made["failed"].sum())
            progress.add(int(made["rows"].sum()), failed)
    except KeyboardInterrupt:
        return False
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    finally:
        progress.close()
    return True


class PartMaker:
    """An actor: makes parts of rows with one model.

    Args:
        job: The study, with its columns.
        shard: Begins the names of the files.
        on_gpu: Whether to move a model that is loaded by its name to the GPU.
    """

    def __init__(self, job: Job, shard: str, on_gpu: bool) -> None:
        self._job = _loaded(job, on_gpu)
        self._maker = self._job.maker()
        self._writer = self._job.writer(shard)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Make and write the rows of a part.

        Args:
            batch: "batches", texts as `_blocks` makes them.

        Returns:
            Numbers of rows, and of those with an error.
        """
        rows = failed = 0
        with torch_threads(self._job.threads):
            for members, wanted in (pair for block in batch["batches"] for pair in json.loads(block)):
                for values in self._maker.make_batch(Batch(members, wanted)):
                    rows, failed = rows + 1, failed + ("error" in values)
                    self._writer.add(values)
        self._writer.flush()
        return {"rows": np.array([rows]), "failed": np.array([failed])}


def _blocks(batches: Sequence[Batch], rows: int) -> list[dict[str, str]]:
    """The batches as texts, so many rows in each."""
    blocks: list[list[Any]] = [[]]
    filled = 0
    for batch in batches:
        if blocks[-1] and filled + len(batch.wanted) > rows:
            blocks.append([])
            filled = 0
        blocks[-1].append([batch.members, batch.wanted])
        filled += len(batch.wanted)
    return [{"batches": json.dumps(block)} for block in blocks]


def _prepare(job: Job, rows: list[int], on_gpu: bool) -> tuple[str, list[Any], dict[str, Any]]:
    job = _loaded(job, on_gpu)
    made, measured = first_rows(job, rows) if rows else ([], {})
    return job.fingerprint, made, dict(measured)


def _loaded(job: Job, on_gpu: bool) -> Job:
    loaded = job.loaded()
    if job.fingerprint and loaded.fingerprint != job.fingerprint:
        raise RuntimeError("model: a worker loaded another model than the first one: its weights differ")
    if on_gpu and (job.model is None or isinstance(job.model, str)):
        import torch

        if torch.cuda.is_available():
            return replace(loaded, pipe=loaded.pipe.to("cuda"))
    return loaded


def _actors_that_fit(ray: Any, options: RayOptions) -> int:
    resources = ray.cluster_resources()
    if options.num_gpus:
        return max(1, int(resources.get("GPU", 0) / options.num_gpus))
    return max(1, int(resources.get("CPU", 1) / (options.num_cpus or 1)))
