"""The Parquet files of studies: choice among several versions of a row, and joining of many small files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffvis_widget.studies import parts
from diffvis_widget.studies.columns import BASE
from diffvis_widget.studies.parts import PartWriter, join_parts, latest, part_files, read_parts


def row(number: int, error: str | None = None, seconds: float = 0.0) -> dict[str, Any]:
    return {"row": number, "id": str(number), "error": error, "seconds": seconds}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / parts.FOLDER).mkdir()
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]], shard: str = "all") -> None:
    writer = PartWriter(folder, BASE, "study", shard)
    for values in rows:
        writer.add(values)
    writer.flush()


def test_of_several_versions_the_last_without_an_error_counts() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        rows, failed = generator.integers(0, 5, 30), generator.random(30) < 0.5
        expected: dict[int, int] = {}
        for index, (number, error) in enumerate(zip(rows.tolist(), failed.tolist(), strict=True)):
            if number not in expected or not error or failed[expected[number]]:
                expected[number] = index
        assert latest(rows, failed).tolist() == [expected[number] for number in sorted(expected)]


def test_a_part_is_written_when_it_has_enough_rows(folder: Path) -> None:
    writer = PartWriter(folder, BASE, "study")
    for number in range(2 * parts.PART_ROWS + 1):
        writer.add(row(number))
    assert len(part_files(folder)) == 2
    assert writer.waiting == 1


def test_a_part_is_written_when_enough_time_has_passed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_SECONDS", 0.0)
    PartWriter(folder, BASE, "study").add(row(0))
    assert len(part_files(folder)) == 1


def test_reading_merges_the_parts_and_leaves_out_repetitions(folder: Path) -> None:
    write(folder, [row(3), row(1, "failed")])
    write(folder, [row(1, seconds=2.0), row(0)])
    table = read_parts(folder, BASE, "study", ["row", "seconds"])
    assert table.to_pylist() == [{"row": 0, "seconds": 0.0}, {"row": 1, "seconds": 2.0}, {"row": 3, "seconds": 0.0}]


def test_many_small_parts_become_one_with_the_same_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MERGE_FROM", 5)
    for number in range(6):
        write(folder, [row(number), row(0, "failed")])
    write(folder, [row(9)], shard="shard-1-of-2")
    before = read_parts(folder, BASE, "study", list(BASE)).to_pylist()
    join_parts(folder, "all", "study")
    assert len(part_files(folder)) == 2, "parts of another process stay as they are"
    assert read_parts(folder, BASE, "study", list(BASE)).to_pylist() == before


def test_a_writer_joins_its_parts_as_they_become_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_MERGE_FROM", 5)
    monkeypatch.setattr(parts, "_MERGED_ROWS", 300)
    monkeypatch.setattr(parts, "_GROUP_ROWS", 7)
    writer = PartWriter(folder, BASE, "study", joins=True)
    most = 0
    for number in range(1003):
        writer.add(row(number))
        most = max(most, len(part_files(folder)))
    writer.flush()
    assert most < 1003 / parts.PART_ROWS / 3
    table = read_parts(folder, BASE, "study", ["row", "id"])
    assert table.to_pylist() == [{"row": number, "id": str(number)} for number in range(1003)]


def test_parts_of_another_study_are_refused(folder: Path) -> None:
    write(folder, [row(0)])
    with pytest.raises(ValueError, match="belongs to another study"):
        read_parts(folder, BASE, "other", ["row"])


def test_what_a_dead_process_left_is_removed_when_it_is_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfinished = folder / parts.FOLDER / ".all-0.parquet.part"
    unfinished.write_bytes(b"PAR1")
    parts.remove_abandoned(folder)
    assert unfinished.exists()
    monkeypatch.setattr(parts, "_ABANDONED_SECONDS", -1.0)
    parts.remove_abandoned(folder)
    assert not unfinished.exists()
    assert part_files(folder) == []
