"""Makes the missing rows of a study: checks that its folder holds the same one, or begins it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from . import manifest as manifests
from .jobs import Job, first_rows
from .local_executor import Progress, run_rows
from .manifest import Manifest
from .measures import Measure, with_columns
from .parts import join_parts, part_files, read_parts, remove_abandoned
from .plan import check_shard
from .row_maker import torch_threads


def resume(folder: Path, model: Any, *, shard: tuple[int, int] | None, retry: bool, progress: bool) -> None:
    """Resume a study from its folder alone; see `Study.resume`.

    Args:
        folder: The folder.
        model: As for `dv.study`; None for the model that the folder names.
        shard: As for `dv.study`.
        retry: As for `dv.study`.
        progress: As for `dv.study`.
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
    )
    run_study(job, shard=check_shard(shard), retry=retry, progress=progress, keep_threads=True)


def run_study(job: Job, *, shard: tuple[int, int] | None, retry: bool, progress: bool, keep_threads: bool) -> None:
    """Make the rows of a study that are missing.

    Args:
        job: The study.
        shard: Its part, or None.
        retry: Whether to make failed rows again.
        progress: Whether to show a bar.
        keep_threads: Whether an existing study keeps its number of threads.
    """
    _check_pyarrow()
    manifests.check_folder(job.folder)
    existing = manifests.read(job.folder)[0] if (job.folder / manifests.NAME).exists() else None
    if existing and keep_threads:
        job = replace(job, threads=existing.settings["threads"])
    name = "all" if shard is None else f"shard-{shard[0]}-of-{shard[1]}"
    job = job.loaded() if existing is None else _checked(job.loaded(), existing)
    made: list[dict[str, Any]] = []
    if existing is None:
        made, measured = first_rows(job, list(islice(job.plan.rows(shard), 3)))
        job, existing = _created(job, measured)
    else:
        remove_abandoned(job.folder)
    missing = _missing(job, existing, shard, retry)
    writer = job.writer(name)
    for row in made:
        writer.add(row)
    rows = missing[~np.isin(missing, [row["row"] for row in made])]
    bar = Progress(len(missing) if shard else job.plan.total, 0 if shard else job.plan.total - len(missing), progress)
    bar.add(len(made), sum("error" in row for row in made))
    with torch_threads(job.threads):
        finished = run_rows(job.maker(), rows.tolist(), writer, bar)
    join_parts(job.folder, name, job.study)
    if not finished:
        print(
            f"study: stopped; the finished rows are stored in {job.folder}. The same call, or resume(), makes the rest",
            file=sys.stderr,
        )


def _checked(job: Job, existing: Manifest) -> Job:
    """The job with the columns of the study that is there."""
    settings = manifests.settings_of(job.plan, job.fingerprint, job.measures, job.keep_traces, job.threads)
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
        "model": job.model if is_named else type(job.pipe).__name__,
        "model_is_named": is_named,
        "measure_columns": {measure.name: dict(measure.columns) for measure in measures},
        "versions": dict(versions()),
        "command": sys.argv[0] and " ".join(sys.argv),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    settings = manifests.settings_of(job.plan, job.fingerprint, measures, job.keep_traces, job.threads)
    manifest = manifests.Manifest(settings, manifests.columns_of(job.plan, measures), about)
    manifests.create(job.folder, manifest, job.plan)
    return replace(job, measures=measures, columns=manifest.columns, study=manifest.study), manifest


def _missing(job: Job, manifest: Manifest, shard: tuple[int, int] | None, retry: bool) -> Any:
    """int64 (n,), the numbers of the rows to make."""
    is_stored = np.zeros(job.plan.total, dtype=bool)
    if part_files(job.folder):
        table = read_parts(job.folder, manifest.columns, manifest.study, ["row", "error"])
        stored = table.column("row").to_numpy()
        if retry:
            stored = stored[table.column("error").combine_chunks().is_null().to_numpy(zero_copy_only=False)]
        is_stored[stored] = True
    rows = np.arange(job.plan.total) if shard is None else np.fromiter(job.plan.rows(shard), np.int64)
    return rows[~is_stored[rows]]


def _check_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError("studies need pyarrow: pip install 'diffvis-widget[studies]'") from error
