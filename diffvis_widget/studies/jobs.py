"""What a process needs in order to make rows of a study, and the first rows of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .manifest import TRACES
from .measures import Measure
from .parts import PartWriter
from .plan import Plan
from .row_maker import KeepTraces, RowMaker, load_model, torch_threads

TRIALS = 3


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs, here or in another process.

    Attributes:
        model: A pipeline, a name, or a function that makes a pipeline.
        plan: The rows.
        measures: What to measure.
        folder: The folder of the study.
        keep_traces: Which traces to store.
        threads: Number of torch's threads.
        batch: How many rows are run together, at most.
        fingerprint: That of the model; "" as long as it is not known.
        columns: Kinds by column; empty as long as they are not known.
        study: Digest of the study, likewise.
        pipe: The pipeline, once it is loaded.
    """

    model: Any
    plan: Plan
    measures: Sequence[Measure]
    folder: Path
    keep_traces: KeepTraces
    threads: int
    batch: int = 1
    fingerprint: str = ""
    columns: Mapping[str, Any] | None = None
    study: str = ""
    pipe: Any = None

    def loaded(self) -> Job:
        """Load the model.

        Returns:
            A job with its pipeline and the fingerprint of that.
        """
        from diffvis_widget.tracer import fingerprint

        pipe = load_model(self.model)
        return replace(self, pipe=pipe, fingerprint=fingerprint(pipe))

    def maker(self) -> RowMaker:
        """Make what makes the rows; the model must be loaded.

        Returns:
            The maker.
        """
        return RowMaker(self.plan, self.pipe, self.fingerprint, self.measures, self.folder / TRACES, self.keep_traces)

    def writer(self, shard: str, joins: bool = False) -> PartWriter:
        """Make what writes the rows.

        Args:
            shard: Begins the names of the files.
            joins: Whether it joins parts as they become many.

        Returns:
            The writer.
        """
        assert self.columns is not None
        return PartWriter(self.folder, self.columns, self.study, shard, joins)


def first_rows(job: Job, rows: Sequence[int]) -> tuple[list[dict[str, Any]], dict[str, Mapping[str, Any]]]:
    """Make the first rows of a study, before anything of it is written.

    Args:
        job: The study, with its model loaded.
        rows: Numbers of the rows of the study.

    Returns:
        The rows that were made, the last of which succeeded, and what its measures returned.

    Raises:
        RuntimeError: None of the first three succeeded.
    """
    maker = job.maker()
    made: list[dict[str, Any]] = []
    with torch_threads(job.threads):
        for row in rows[:TRIALS]:
            made.append(maker.make(row))
            if "error" not in made[-1]:
                return made, maker.measured
    raise RuntimeError(f"the first rows of the study failed, and nothing was written: {made[0]['error']}")
