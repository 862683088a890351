"""A study in its folder: how far it is, and its table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffvis_widget.arguments import choice, did_you_mean, file_path, flag, items, shorten
from diffvis_widget.traces import Trace

from . import manifest as manifests
from .manifest import Manifest
from .parts import read_parts
from .plan import Plan, check_shard
from .prompts import PromptRow

if TYPE_CHECKING:
    from .paired import PairedComparison
    from .series import By, Reduction
    from .view.study_view import StudyView


Executor = Literal["local", "ray"]


class Study:
    """A study in its folder. Make it with `dv.study` or `Study.open`.

    Args:
        folder: The folder.
        manifest: Its description.
        prompts: Its prompts.

    Example:
        >>> dv.Study.open("missing")
        Traceback (most recent call last):
        FileNotFoundError: missing holds no study: it has no study.json
    """

    def __init__(self, folder: Path, manifest: Manifest, prompts: Sequence[PromptRow]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._prompts = prompts

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> Study:
        """Open a study, complete or not. It is data: nothing of it is run or imported.

        Args:
            out: Its folder.

        Returns:
            The study.

        Raises:
            TypeError: The folder is no path.
            FileNotFoundError: The folder holds no study.
            ValueError: The study is damaged, or was written by a newer version.
        """
        folder = file_path("out", out)
        return cls(folder, *manifests.read(folder))

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self._folder

    @property
    def columns(self) -> list[str]:
        """Names of the columns of its table."""
        return list(self._manifest.columns)

    @property
    def conditions(self) -> list[str]:
        """Names of its conditions."""
        return list(self._manifest.settings["conditions"])

    @property
    def total(self) -> int:
        """Number of rows that it will have."""
        seeds = 1 if self._prompts[0].seed is not None else len(self._manifest.settings["seeds"])
        return len(self._prompts) * seeds * len(self.conditions)

    @property
    def finished(self) -> int:
        """Number of rows that are stored, those with an error too."""
        return self.table(["row"]).num_rows

    @property
    def failed(self) -> int:
        """Number of stored rows with an error."""
        errors = self.table(["error"]).column("error")
        return len(errors) - errors.null_count

    @property
    def is_complete(self) -> bool:
        """Whether every row is stored."""
        return self.finished == self.total

    @property
    def plan(self) -> Plan:
        """Its rows.

        Raises:
            ValueError: A setting is an array or image, which no study stores.
        """
        return manifests.restored_plan(self._manifest, self._prompts)

    def __repr__(self) -> str:
        finished = self.finished
        failed = f", {self.failed} failed" if self.failed else ""
        return f"Study({str(self._folder)!r}: {finished} of {self.total} rows{failed})"

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Read its table: a row for each prompt, seed and condition, in this order, without repetitions.

        The files of the study can be read directly too, by anything that reads Parquet: `out/parts/*.parquet`. There a
        row that was made twice (by a retry, or a process that died) stands twice.

        Args:
            columns: Names of columns; None for all.

        Returns:
            A pyarrow Table.

        Raises:
            TypeError: The columns are no list of names.
            ValueError: There is no such column, or a file is damaged or of another study.
        """
        names = self.columns if columns is None else items("columns", columns, "a list of names of columns")
        for name in names:
            if name not in self._manifest.columns:
                hint = did_you_mean(name, self.columns)
                raise ValueError(f"columns: this study has no column {shorten(name)}{hint}; it has {self.columns}")
        return read_parts(self._folder, self._manifest.columns, self._manifest.study, names)

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Read its table as a DataFrame. It needs pandas.

        Args:
            columns: Names of columns; None for all.

        Returns:
            A pandas DataFrame.
        """
        return self.table(columns).to_pandas()

    def compare(
        self,
        a: str,
        b: str,
        measure: str | Sequence[str],
        *,
        by: By | None = None,
        reduce: Reduction = "mean",
    ) -> PairedComparison:
        """Compare two conditions, in pairs of the same prompt and seed.

        Each row is reduced to one number, and the differences of a prompt's pairs are averaged over its seeds. The
        interval of their mean is a bootstrap over prompts, not over rows: rows of a prompt resemble each other, and
        counting them as independent would make it too narrow. All p-values of a call are corrected together by Holm's
        method.

        Args:
            a: Name of a condition.
            b: Name of another one; the differences are b - a.
            measure: Name of a measured column, or several.
            by: Divides columns of words by "word" or "role", and those of scores by "concept": one test for each.
            reduce: How a curve over the steps becomes one number: its "mean", "sum", "first" or "last" value.

        Returns:
            The comparison.

        Raises:
            TypeError: The measures are no names.
            ValueError: There is no such condition, column or reduction, a column cannot be divided so, or the result is
                known before: of the mean share of all concepts, and of a divergence from one of the two conditions.
        """
        from .paired import compare_conditions
        from .quantities import check_comparable
        from .series import LABELS, check_measure, check_reduce

        names = [measure] if isinstance(measure, str) else items("measure", measure, "a name of a column, or several")
        for side, name in (("a", a), ("b", b)):
            choice(side, name, self.conditions)
        for name in names:
            check_measure(self._manifest.columns, name, by)
            check_comparable(self._manifest.settings, name, by, a, b)
        labels = [LABELS[by]] if by else []
        table = self.table(list(dict.fromkeys(["prompt", "seed", "condition", *names, *labels])))
        return compare_conditions(table, a, b, names, by, check_reduce(reduce))

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML page about the study that works without a network.

        It holds what was run and by which command or call, curves over the steps and means with their intervals, paired
        comparisons of the first condition with each other, up to 400 final images, failed rows with their errors, and
        the first eight runs whose traces are stored.

        Args:
            path: The file to write.

        Returns:
            The path of the file.

        Raises:
            TypeError: The path is no path.
            ValueError: No row is stored, or the path has another suffix than .html.
            OSError: The file cannot be written.
        """
        from diffvis_widget.traces.file.whole_file import check_destination, write_bytes_whole

        from .report import MAX_RUNS, report_page

        target = file_path("path", path, ".html", ".htm")
        check_destination(target)
        table = self.table()
        if not table.num_rows:
            raise ValueError("report: no row of this study is stored yet")
        stored = table.select(["row", "prompt", "seed", "condition", "trace_file"]).to_pylist()
        runs = [row for row in stored if row["trace_file"]][:MAX_RUNS]
        titled = ((f"{row['prompt']}, seed {row['seed']}, {row['condition']}", self.trace(row["row"])) for row in runs)
        manifest = self._manifest
        page = report_page(self._folder.resolve().name, table, manifest, self._prompts, self.total, titled)
        return write_bytes_whole(target, page.encode("utf-8", "replace"))

    def show(self, model: Any = None) -> StudyView:
        """Show the study in a notebook: its images, curves and runs.

        The grid has the final images by prompt and seed, with filters by column. The chart has the mean of any measure
        over the steps, with intervals, by condition, word or another column. Both are linked: filters hold for the
        chart, and a region that is marked in the chart keeps the rows whose curves pass through it. A click on an image
        opens its run beside them, from its trace file or, where the study keeps none, run again with the stored prompt,
        seed and settings; a note says which, and whether the image is the same.

        Args:
            model: A pipeline, a name for `dv.load`, or a function that makes a pipeline, to run rows again; None for
                the model that the study names.

        Returns:
            The view. As last line of a cell it is shown; `filters`, `rows` and `open_run` are for Python.

        Raises:
            TypeError: The model is something else.
            ValueError: No row is stored.
        """
        from .row_maker import check_model
        from .view.study_view import StudyView

        check_model(model)
        if not self.finished:
            raise ValueError("show: no row of this study is stored yet")
        return StudyView(self._folder, self._manifest, self._prompts, self.trace, model)

    def trace(self, row: int) -> Trace:
        """Open the trace file of a row.

        Args:
            row: Number of the row, as in the column "row".

        Returns:
            The trace.

        Raises:
            TypeError: The number is no integer.
            IndexError: There is no such row.
            ValueError: The study stores no trace of this row.
        """
        from diffvis_widget.arguments import row_index
        from diffvis_widget.files import open_trace

        number = row_index("row", row, self.total)
        table = self.table(["row", "trace_file"])
        names = dict(zip(table.column("row").to_pylist(), table.column("trace_file").to_pylist(), strict=True))
        name = names.get(number)
        if name is None:
            raise ValueError(f'row {number} has no trace file: dv.study(..., keep_traces="compact") stores them')
        path = (self._folder / name).resolve()
        if (self._folder / manifests.TRACES).resolve() not in path.parents:
            raise ValueError(f"row {number} names a trace file outside of its study: {shorten(name)}")
        return open_trace(path)

    def resume(
        self,
        model: Any = None,
        *,
        retry: bool = False,
        shard: tuple[int, int] | None = None,
        progress: bool = True,
        executor: Executor = "local",
        executor_options: Mapping[str, Any] | None = None,
    ) -> Study:
        """Make the rows that are missing.

        Measures that are functions are imported by the paths that the study stores: resume only studies that you trust.

        Args:
            model: As for `dv.study`; None for the model that the study names.
            retry: Whether to make rows again that failed.
            shard: (i, n): makes only part i of n.
            progress: Whether to show a bar.
            executor: As for `dv.study`.
            executor_options: As for `dv.study`.

        Returns:
            The study, with the new rows.

        Raises:
            TypeError: An argument has the wrong type.
            ValueError: The model is another one than that of the study, or the study was made with a pipeline, function
                or image that it does not store: give the model, or call `dv.study` again.
            OSError: The folder cannot be written to.
        """
        from .sessions import RunOptions, check_executor, resume

        options = RunOptions(
            check_shard(shard),
            flag("retry", retry),
            flag("progress", progress),
            ray=check_executor(executor, executor_options),
        )
        resume(self._folder, model, options)
        return Study.open(self._folder)
