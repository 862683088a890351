"""Makes the missing rows of a study: checks that its folder holds the same one, or begins it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.arguments import choice, shorten

from . import manifest as manifests
from .jobs import TRIALS, Job, first_rows
from .local_executor import Progress, run_rows
from .manifest import Manifest
from .measures import Measure, with_columns
from .parts import has_error, join_parts, part_files, read_parts, remove_abandoned, row_numbers
from .ray_executor import RayOptions, check_options, connected, prepared
from .ray_executor import run_rows as run_on_ray
from .row_maker import is_pipeline, torch_threads


@dataclass(frozen=True)
class RunOptions:
    """How to make the rows of a study.

    Attributes:
        shard: (i, n), the part i of n, or None.
        retry: Whether to make failed rows again.
        progress: Whether to show a bar.
        keep_threads: Whether an existing study keeps its number of threads.
        ray: Options of Ray; None makes the rows in this process.
    """

    shard: tuple[int, int] | None
    retry: bool
    progress: bool
    keep_threads: bool = True
    ray: RayOptions | None = None


def check_executor(executor: Any, options: Any) -> RayOptions | None:
    """Check where the rows are made.

    Args:
        executor: "local" or "ray".
        options: Options of Ray by name, or None.

    Returns:
        The options of Ray; None for this process.

    Raises:
        TypeError: The options are no dictionary, or there is no such option.
        ValueError: There is no such executor, or it takes no options.
    """
    if choice("executor", executor, ("local", "ray")) == "ray":
        return check_options(options)
    if options is not None:
        raise ValueError(f'executor_options are for executor="ray", not {shorten(options)}')
    return None


def resume(folder: Path, model: Any, options: RunOptions) -> None:
    """Resume a study from its folder alone; see `Study.resume`.

    Args:
        folder: The folder.
        model: As for `dv.study`; None for the model that the folder names.
        options: How to make the rows.
    """
    manifest, prompts = manifests.read(folder)
    about, settings = manifest.about, manifest.settings
    if model is None:
        if not about["model_is_named"]:
            raise ValueError("model: this study was made with a pipeline or function, which it does not store; give it")
        model = about["model"]
    job = Job(
        model,
        manifests.restored_plan(manifest, prompts),
        manifests.restored_measures(manifest),
        folder,
        settings["keep_traces"],
        settings["threads"],
        settings.get("batch", 1),
    )
    run_study(job, options)


def run_study(job: Job, options: RunOptions) -> None:
    """Make the rows of a study that are missing.

    Args:
        job: The study.
        options: How to make them.
    """
    _check_pyarrow()
    if options.ray and is_pipeline(job.model):
        raise TypeError(
            'model: executor="ray" needs the name of a model, or a function that makes the pipeline in each actor'
        )
    manifests.check_folder(job.folder)
    existing = manifests.read(job.folder)[0] if (job.folder / manifests.NAME).exists() else None
    if existing and options.keep_threads:
        job = replace(job, threads=existing.settings["threads"])
    shard = options.shard
    name = "all" if shard is None else f"shard-{shard[0]}-of-{shard[1]}"
    with connected(options.ray) if options.ray else nullcontext() as ray:
        first = [] if existing else list(islice(job.plan.rows(shard), TRIALS))
        made, measured = [], {}
        if options.ray:
            fingerprint, made, measured = prepared(ray, job, first, options.ray)
            job = replace(job, fingerprint=fingerprint)
        else:
            job = job.loaded()
            if first:
                made, measured = first_rows(job, first)
        job, manifest = (_checked(job, existing), existing) if existing else _created(job, measured)
        remove_abandoned(job.folder)
        missing = _missing(job, manifest, shard, options.retry)
        writer = job.writer(name, joins=not options.ray)
        for row in made:
            writer.add(row)
        writer.flush()
        rows = missing[~np.isin(missing, [row["row"] for row in made])].tolist()
        batches = job.plan.batches(rows, job.batch, shard)
        total = len(missing) if shard else job.plan.total
        bar = Progress(total, total - len(missing), options.progress and len(missing) > 0)
        bar.add(len(made), sum("error" in row for row in made))
        if options.ray:
            finished = run_on_ray(ray, job, batches, name, bar, options.ray)
        else:
            with torch_threads(job.threads):
                finished = run_rows(job.maker(), batches, writer, bar)
    join_parts(job.folder, name, job.study)
    if not finished:
        print(
            f"study: stopped; the finished rows are stored in {job.folder}. The same call, or resume(), makes the rest",
            file=sys.stderr,
        )


def _checked(job: Job, existing: Manifest) -> Job:
    """The job with the columns of the study that is there."""
    settings = manifests.settings_of(job.plan, job.fingerprint, job.measures, job.keep_traces, job.threads, job.batch)
    existing.check_same(manifests.Manifest(settings, {}, {}), job.folder)
    by_measure = existing.about["measure_columns"]
    measures = [
        Measure(measure.name, measure.function, measure.options, by_measure[measure.name], measure.source)
        for measure in job.measures
    ]
    return replace(job, measures=measures, columns=existing.columns, study=existing.study)


def _created(job: Job, measured: Mapping[str, Mapping[str, Any]]) -> tuple[Job, Manifest]:
    """The job with the columns that the first row had; the study is described in its folder."""
    from diffvis_widget.tracer.provenance import versions

    measures = with_columns(job.measures, measured)
    is_named = job.model is None or isinstance(job.model, str)
    about = {
        "model": job.model if is_named else getattr(job.model, "__name__", type(job.model).__name__),
        "model_is_named": is_named,
        "measure_columns": {measure.name: dict(measure.columns) for measure in measures},
        "versions": dict(versions()),
        "command": _command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    settings = manifests.settings_of(job.plan, job.fingerprint, measures, job.keep_traces, job.threads, job.batch)
    manifest = manifests.Manifest(settings, manifests.columns_of(job.plan, measures), about)
    manifests.create(job.folder, manifest, job.plan)
    return replace(job, measures=measures, columns=manifest.columns, study=manifest.study), manifest


def _command() -> str:
    """The command of the terminal that runs; "" in a notebook or program."""
    program = Path(sys.argv[0]).name
    return shlex.join(["diffvis", *sys.argv[1:]]) if program in ("diffvis", "cli.py") else ""


def _missing(job: Job, manifest: Manifest, shard: tuple[int, int] | None, retry: bool) -> Any:
    """int64 (n,), the numbers of the rows to make."""
    is_stored = np.zeros(job.plan.total, dtype=bool)
    if part_files(job.folder):
        table = read_parts(job.folder, manifest.columns, manifest.study, ["row", "error"])
        stored = row_numbers(table)
        if retry:
            stored = stored[~has_error(table)]
        is_stored[stored] = True
    rows = np.arange(job.plan.total) if shard is None else np.fromiter(job.plan.rows(shard), np.int64)
    return rows[~is_stored[rows]]


def _check_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError("studies need pyarrow: pip install 'diffvis-widget[studies]'") from error
