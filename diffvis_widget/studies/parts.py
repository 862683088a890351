"""The Parquet files of a study: written whole or not at all, merged when they are read, joined when they are many."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Kind, arrow_schema

PART_ROWS, PART_SECONDS = 20, 60.0
"""A part is written after so many rows, or so many seconds after the last one, whichever comes first."""
FOLDER = "parts"
_MERGE_FROM = 200  # so many parts become one
_MERGED_ROWS = 20_000  # at most about so many rows; one with half of that stays as it is
_GROUP_ROWS = 1_000  # that can be read by themselves: what a view of the thumbnails reads at once
_ABANDONED_SECONDS = 600.0
_STUDY = b"diffvis_study"


class PartWriter:
    """Writes rows in parts.

    Args:
        folder: The folder of the study.
        columns: Kinds by column.
        study: Digest of the study, stored in each file.
        shard: Begins the names of the files.
        joins: Whether to join parts as they become many. Only one writer of a shard may.
    """

    def __init__(
        self, folder: Path, columns: Mapping[str, Kind], study: str, shard: str = "all", joins: bool = False
    ) -> None:
        self._study = folder
        self._digest = study
        self._until_join = _MERGE_FROM if joins else -1
        self._folder = folder / FOLDER
        self._columns = dict(columns)
        self._schema = arrow_schema(columns, {_STUDY.decode(): study})
        self._shard = shard
        self._rows: list[Mapping[str, Any]] = []
        self._written = time.monotonic()

    @property
    def waiting(self) -> int:
        """Number of rows that are not written yet."""
        return len(self._rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, and write the part if it is complete.

        Args:
            row: Values by column.

        Raises:
            OSError: The part cannot be written.
        """
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._written >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait.

        Raises:
            OSError: The part cannot be written; the rows still wait, and no part of the file is left.
        """
        if self._rows:
            import pyarrow as pa

            rows = [{name: row.get(name) for name in self._columns} for row in self._rows]
            table = pa.Table.from_pylist(rows, schema=self._schema)
            write_part(self._folder, table, f"{self._shard}-{int(self._rows[0]['row']):09d}")
            self._rows = []
            self._until_join -= 1
            if self._until_join == 0:
                join_parts(self._study, self._shard, self._digest)
                self._until_join = _MERGE_FROM
        self._written = time.monotonic()


def write_part(folder: Path, table: Any, name: str) -> Path:
    """Write a table as one file: under another name first, then renamed.

    Args:
        folder: The folder of the parts.
        table: A pyarrow Table.
        name: Begins the name of the file.

    Returns:
        The path.

    Raises:
        OSError: The file cannot be written; no part of it is left.
    """
    import pyarrow.parquet as parquet

    target = folder / f"{name}-{uuid.uuid4().hex[:12]}.parquet"
    temporary = folder / f".{target.name}.part"
    try:
        with open(temporary, "wb") as file:
            parquet.write_table(table, file, compression="zstd", row_group_size=_GROUP_ROWS)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise type(error)(
            error.errno,
            f"{table.num_rows} rows cannot be written to {target} ({error.strerror or error}); all earlier rows are "
            "stored. Make space, then resume the study",
        ) from error
    return target


def part_files(folder: Path) -> list[Path]:
    """List the parts of a study.

    Args:
        folder: The folder of the study.

    Returns:
        Their paths, in order of their names.
    """
    return sorted(path for path in (folder / FOLDER).glob("*.parquet") if not path.name.startswith("."))


def read_parts(folder: Path, columns: Mapping[str, Kind], study: str, names: Sequence[str]) -> Any:
    """Read the rows of a study, each once, in their order.

    Of a row that is there several times, one without an error is preferred, then the one written last.

    Args:
        folder: The folder of the study.
        columns: Kinds by column.
        study: Digest of the study.
        names: The columns to read.

    Returns:
        A pyarrow Table.

    Raises:
        ValueError: A file is of another study, or damaged.
    """
    import pyarrow as pa

    table, _ = _all_versions(folder, columns, study, names)
    chosen = _chosen(table)
    places = pa.Array.from_buffers(pa.int64(), len(chosen), [None, pa.py_buffer(chosen)])  # pa.array imports pandas
    return table.take(places).select(list(names))


def locate(
    folder: Path, columns: Mapping[str, Kind], study: str
) -> tuple[list[Path], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find where the rows of a study are stored, of several versions of a row that which `read_parts` reads.

    Args:
        folder: The folder of the study.
        columns: Kinds by column.
        study: Digest of the study.

    Returns:
        The files; of each stored row, by rising number, that number, the index of its file and its position there.

    Raises:
        ValueError: A file is of another study, or damaged.
    """
    table, parts = _all_versions(folder, columns, study, [])
    sizes = np.array([size for _, size in parts], dtype=np.int64)
    files = np.repeat(np.arange(len(parts)), sizes)
    positions = np.arange(len(files)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = _chosen(table)
    return [path for path, _ in parts], row_numbers(table)[chosen], files[chosen], positions[chosen]


def _all_versions(folder: Path, columns: Mapping[str, Kind], study: str, names: Sequence[str]) -> Any:
    """The rows as they are stored, and the files and their numbers of rows, in the same order."""
    import pyarrow as pa

    schema = arrow_schema(columns, {})
    needed = list(dict.fromkeys([*names, "row", "error"]))
    tables = list(_tables(folder, study, needed))
    if tables:
        table = pa.concat_tables([part.replace_schema_metadata(None) for _, part in tables])
    else:  # making an empty table imports pandas, which takes longer than reading hundreds of parts
        table = pa.schema([schema.field(name) for name in needed]).empty_table()
    return table, [(path, part.num_rows) for path, part in tables]


def row_numbers(table: Any) -> NDArray[np.int64]:
    """Read the numbers of the rows. Unlike pyarrow's own conversion it does not import pandas, which takes a second.

    Args:
        table: A pyarrow Table with the column "row".

    Returns:
        int64 (n,).
    """
    return np.asarray(np.from_dlpack(table.column("row").combine_chunks()), dtype=np.int64)


def has_error(table: Any) -> NDArray[np.bool_]:
    """Find the rows that failed, likewise without pandas.

    Args:
        table: A pyarrow Table with the column "error".

    Returns:
        bool (n,).
    """
    import pyarrow as pa

    return np.from_dlpack(table.column("error").combine_chunks().is_valid().cast(pa.int8())) == 1


def _chosen(table: Any) -> NDArray[np.int64]:
    return latest(row_numbers(table), has_error(table))


def latest(rows: NDArray[np.int64], failed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Choose one of several versions of each row.

    Args:
        rows: (n,), the number of each row; later versions come later.
        failed: (n,), whether it has an error.

    Returns:
        (m,), indices of the chosen rows, by rising number.
    """
    order = np.lexsort((np.arange(len(rows)), ~failed, rows))
    ordered = rows[order]
    is_last = np.ones(len(ordered), dtype=bool)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    return order[is_last]


def _tables(folder: Path, study: str, names: list[str]) -> Iterator[tuple[Path, Any]]:
    """The parts in the order in which they were written; those that another process joins meanwhile are read again."""
    for attempt in range(3):
        try:
            paths = sorted(part_files(folder), key=lambda path: (path.stat().st_mtime_ns, path.name))
            yield from [(path, _table(path, study, names)) for path in paths]
            return
        except FileNotFoundError:
            if attempt == 2:
                raise


def _table(path: Path, study: str, names: list[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            metadata = file.schema_arrow.metadata or {}
            if metadata.get(_STUDY, b"").decode() != study:
                raise ValueError(f"{path} belongs to another study: move it out of this folder")
            return file.read(columns=names, use_threads=False)  # for a few rows, threads cost more than they save
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it and resume the study, which makes its rows again"
        ) from None


def join_parts(folder: Path, shard: str, study: str) -> None:
    """Join small parts of a shard into larger ones, so that reading stays fast.

    A process that dies in between leaves rows twice, which reading resolves.

    Args:
        folder: The folder of the study.
        shard: Begins the names of the parts.
        study: Digest of the study.

    Raises:
        OSError: A part cannot be written; the small ones are still there.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    small: list[Path] = []
    waiting = 0
    paths = sorted((folder / FOLDER).glob(f"{shard}-*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    for path in paths:
        rows = parquet.read_metadata(path).num_rows
        if rows < _MERGED_ROWS // 2:
            small.append(path)
            waiting += rows
        if waiting >= _MERGED_ROWS or (path == paths[-1] and len(small) >= _MERGE_FROM):
            tables: list[Any] = []
            for part in small:
                with parquet.ParquetFile(part) as file:
                    tables.append(file.read(use_threads=False))
            if any((table.schema.metadata or {}).get(_STUDY, b"").decode() != study for table in tables):
                return
            write_part(folder / FOLDER, pa.concat_tables(tables), f"{shard}-joined")
            for part in small:
                part.unlink(missing_ok=True)
            small, waiting = [], 0


def remove_abandoned(folder: Path) -> None:
    """Remove unfinished files of processes that died.

    Args:
        folder: The folder of the study.
    """
    for path in (folder / FOLDER).glob(".*.part"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
        except FileNotFoundError:  # another process was faster
            continue
