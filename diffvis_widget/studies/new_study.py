"""Starts and resumes studies: `dv.study`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffvis_widget.arguments import choice, count, file_path, flag

from .conditions import check_conditions, check_settings
from .jobs import Job
from .measures import check_measures
from .plan import MOST_TOGETHER, Plan, check_seeds, check_shard
from .prompts import read_prompts
from .row_maker import KeepTraces
from .sessions import RunOptions, check_executor, run_study
from .stored_study import Executor, Study


def study(
    model: Any,
    prompts: Any,
    *,
    seeds: int | Sequence[int] = (0,),
    measures: Sequence[str | Callable[..., Any]] | Mapping[str, Any],
    conditions: Mapping[str, Mapping[str, Any]] | Sequence[str] | None = None,
    out: str | os.PathLike[str],
    executor: Executor = "local",
    executor_options: Mapping[str, Any] | None = None,
    shard: tuple[int, int] | None = None,
    keep_traces: KeepTraces = "none",
    threads: int | None = None,
    batch: int = 1,
    retry: bool = False,
    progress: bool = True,
    **pipe_kwargs: Any,
) -> Study:
    """Run every prompt with every seed under every condition, and store what is measured as a table.

    The table has one row for each prompt, seed and condition, in Parquet files below `out`. Rows are written whenever
    20 are complete, or after 60 seconds. Ctrl-C ends the study after the row under way. Called again with the same
    arguments it makes the rows that are missing, and the table is the same as that of an undisturbed study. A row that
    fails is stored with its error, and the study goes on.

    Built-in measures are "scores", "attention", "overlap", "relevance", "decision" and "divergence"; any function that
    takes a Trace and returns a dictionary of numbers, texts, lists of numbers or lists of lists is one too. The first
    rows are made before anything is written, so that an error in a measure shows at once.

    Args:
        model: A pipeline; a name for `dv.load`, None for the built-in scenes model; or a function without parameters
            that makes a pipeline. Ray takes no pipeline.
        prompts: Texts, dictionaries with a "prompt", a DataFrame, or a CSV, TSV, Parquet, JSON lines or text file.
            Further columns become columns of the table; "seed" replaces `seeds`, and "roles" holds {word: role}.
        seeds: How many (0, 1, ...), or which.
        measures: Names of built-in measures, functions, and import paths ("package.module:function"); or a dictionary
            of options by name: {"scores": {"concepts": ["sky"]}}.
        conditions: Arguments of `dv.trace` and of the pipeline by the name of the condition, or a list of schedules.
            Texts in "prompt", "negative_prompt" and interventions may name columns: {"photo": {"prompt": "a photo of
            {prompt}"}}.
        out: Folder of the study.
        executor: "local" makes one row after the other in this process; "ray" has a model in each of several actors, on
            this machine or a cluster, and makes the same rows.
        executor_options: Options of Ray: "address" ("auto", or of a cluster; None for this machine), "actors", and
            "num_gpus" of each, such as 0.5 for two on a GPU, or its "num_cpus".
        shard: (i, n): makes only part i of n, for n processes that share the folder.
        keep_traces: Which trace files to store beside the table: "none", "compact" or "full".
        threads: Number of torch's threads, on which the last bits of a result depend; None keeps that of the study, or
            torch's setting for a new one.
        batch: How many rows of equal settings to run as one call of the pipeline, at most. It is faster, on a GPU above
            all, and its rows equal those of batch=1 within rounding, not to the bit. A pipeline that cannot run a batch
            runs its rows one after the other.
        retry: Whether to make rows again that failed.
        progress: Whether to show a bar with rows per hour and the time left.
        **pipe_kwargs: Arguments of all runs, such as num_inference_steps and guidance_scale.

    Returns:
        The study; `Study.is_complete` says whether every row is stored.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of its range, or `out` holds another study; that one is left as it was.
        RuntimeError: The first rows failed.
        OSError: The folder cannot be written to.
        ImportError: pyarrow, or Ray for executor="ray", is not installed.

    Example:
        >>> import tempfile
        >>> import diffvis_widget as dv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = dv.study(
        ...         None, ["a red circle"], seeds=2, measures=["scores"], out=folder, progress=False,
        ...         num_inference_steps=2,
        ...     )
        ...     study.table(["seed", "scores_concepts"]).to_pylist()
        [{'seed': 0, 'scores_concepts': ['red', 'circle']}, {'seed': 1, 'scores_concepts': ['red', 'circle']}]
    """
    rows = read_prompts(prompts)
    plan = Plan(rows, check_seeds(seeds), check_conditions(conditions), check_settings("pipe_kwargs", pipe_kwargs))
    if plan.has_own_seeds and list(plan.seeds) != [0]:
        raise ValueError("seeds: the prompts have a column seed; leave out one of the two")
    choice("keep_traces", keep_traces, ("none", "compact", "full"))
    folder = Path(os.path.abspath(file_path("out", out)))
    job = Job(
        model,
        plan,
        check_measures(measures),
        folder,
        keep_traces,
        _torch_threads() if threads is None else count("threads", threads),
        count("batch", batch, most=MOST_TOGETHER),
    )
    options = RunOptions(
        shard=check_shard(shard),
        retry=flag("retry", retry),
        progress=flag("progress", progress),
        keep_threads=threads is None,
        ray=check_executor(executor, executor_options),
    )
    run_study(job, options)
    return Study.open(folder)


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()
