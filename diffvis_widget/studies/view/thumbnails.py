"""Reads single thumbnails of a study, without the whole column in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.studies.columns import Kind
from diffvis_widget.studies.parts import locate

_CACHED_BYTES = 64_000_000


class Thumbnails:
    """The thumbnails of a study by the numbers of its rows. Threads may share it.

    Args:
        folder: The folder of the study.
        columns: Kinds by column.
        study: Digest of the study.
    """

    def __init__(self, folder: Path, columns: Mapping[str, Kind], study: str) -> None:
        self._arguments = folder, columns, study
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._index()

    def read(self, rows: Sequence[int]) -> list[bytes]:
        """Read thumbnails.

        Args:
            rows: Numbers of rows.

        Returns:
            WebP files; b"" for a row that is not stored or failed.
        """
        with self._lock:
            try:
                return [self._one(row) for row in rows]
            except FileNotFoundError:  # a process that makes more rows has joined parts
                self._index()
                return [self._one(row) for row in rows]

    def _index(self) -> None:
        self._paths, rows, self._files, self._positions = locate(*self._arguments)
        self._order = {int(row): place for place, row in enumerate(rows)}
        self._bounds: dict[Path, Any] = {}
        self._cache.clear()

    def _one(self, row: int) -> bytes:
        place = self._order.get(row)
        if place is None:
            return b""
        path, position = self._paths[self._files[place]], int(self._positions[place])
        bounds = self._bounds_of(path)
        group = int(np.searchsorted(bounds, position, side="right")) - 1
        value = self._group(path, group)[position - int(bounds[group])].as_py()
        return value or b""

    def _bounds_of(self, path: Path) -> Any:
        """int64 (groups + 1,), the first position of each group of rows in a file."""
        import pyarrow.parquet as parquet

        if path not in self._bounds:
            metadata = parquet.read_metadata(path)
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._bounds[path] = np.concatenate([[0], np.cumsum(sizes)])
        return self._bounds[path]

    def _group(self, path: Path, group: int) -> Any:
        import pyarrow.parquet as parquet

        key = path, group
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        with parquet.ParquetFile(path) as file:
            column = file.read_row_group(group, columns=["thumbnail"]).column(0).combine_chunks()
        self._cache[key] = column
        while len(self._cache) > 1 and sum(cached.nbytes for cached in self._cache.values()) > _CACHED_BYTES:
            self._cache.popitem(last=False)
        return column
