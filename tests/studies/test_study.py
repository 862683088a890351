"""Studies from the first row to the last: the table, resuming, failures, and what is refused."""

from __future__ import annotations

import json
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

import diffvis_widget as dv
from diffvis_widget.studies import parts
from diffvis_widget.studies.local_executor import Progress
from diffvis_widget.studies.plan import canonical_json
from tests import pipelines

PROMPTS = [{"prompt": "a red circle", "category": "colour"}, {"prompt": "a green star", "category": "shape"}]
ARGUMENTS: dict[str, Any] = {
    "prompts": PROMPTS,
    "seeds": 2,
    "measures": ["attention"],
    "conditions": {"plain": {}, "strong": {"guidance_scale": 9.0}},
    "progress": False,
    "num_inference_steps": 2,
}


@pytest.fixture(scope="module")
def pipe() -> Any:
    return dv.load()


@pytest.fixture(scope="module")
def study(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> dv.Study:
    return dv.study(pipe, out=tmp_path_factory.mktemp("study"), **ARGUMENTS)


def comparable(study: dv.Study) -> list[dict[str, Any]]:
    """The table without the time that each row took."""
    return [{**row, "seconds": None} for row in study.table().to_pylist()]


def test_the_table_has_a_row_for_each_prompt_seed_and_condition(study: dv.Study) -> None:
    rows = study.table(["row", "prompt", "category", "seed", "condition"]).to_pylist()
    expected = [
        {"row": number, **prompt, "seed": seed, "condition": condition}
        for number, (prompt, seed, condition) in enumerate(
            (prompt, seed, condition) for prompt in PROMPTS for seed in (0, 1) for condition in ("plain", "strong")
        )
    ]
    assert rows == expected
    assert (study.total, study.finished, study.failed, study.is_complete) == (8, 8, 0, True)
    assert repr(study).endswith("8 of 8 rows)")


def test_the_id_is_the_digest_of_what_decides_the_row(study: dv.Study) -> None:
    import hashlib

    row = study.table().to_pylist()[1]
    entry = {
        "prompt": "a red circle",
        "entry": {"prompt": "a red circle", "columns": {"category": "colour"}},
        "seed": 0,
        "condition": "strong",
        "settings": {"guidance_scale": 9.0, "num_inference_steps": 2},
        "fingerprint": row["fingerprint"],
    }
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    assert canonical_json(entry) == text
    assert row["id"] == hashlib.sha256(text.encode()).hexdigest()
    assert row["settings"] == '{"guidance_scale":9.0,"num_inference_steps":2}'
    ids = study.table(["id"]).column("id").to_pylist()
    assert len(set(ids)) == len(ids)


def test_no_file_of_a_study_holds_pickles(study: dv.Study) -> None:
    files = [path for path in study.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".parquet"}
    for path in files:
        if path.suffix == ".parquet":
            assert "pandas" not in str(parquet.read_schema(path).metadata)
        else:
            [json.loads(line) for line in path.read_text().splitlines() if path.suffix == ".jsonl"]


@pytest.mark.parametrize("stops_after", [[1], [2, 5]], ids=["once", "twice"])
def test_a_resumed_study_has_the_table_of_an_undisturbed_one(
    study: dv.Study, pipe: Any, tmp_path: Path, stops_after: list[int]
) -> None:
    metadata = parquet.read_schema(parts.part_files(study.folder)[0]).metadata
    dv.study(pipe, out=tmp_path, **ARGUMENTS)
    for count in stops_after:
        for path in parts.part_files(tmp_path):
            path.unlink()
        first_rows = study.table().slice(0, count).replace_schema_metadata(metadata)
        parts.write_part(tmp_path / parts.FOLDER, first_rows, "all-000000000")
        resumed = dv.study(pipe, out=tmp_path, **ARGUMENTS)
        assert resumed.is_complete
        assert comparable(resumed) == comparable(study)


def test_shards_together_make_the_table_of_one_process(study: dv.Study, pipe: Any, tmp_path: Path) -> None:
    first = dv.study(pipe, out=tmp_path, shard=(1, 2), **ARGUMENTS)
    assert first.table(["row"]).column("row").to_pylist() == [2, 3, 6, 7]
    assert not first.is_complete
    both = dv.study(pipe, out=tmp_path, shard=(0, 2), **ARGUMENTS)
    assert comparable(both) == comparable(study)


def test_ctrl_c_stops_after_the_row_and_keeps_all(
    pipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = 0

    def pressed(trace: dv.Trace) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return {"brightness": float(trace.image.mean())}

    arguments = {**ARGUMENTS, "measures": [pressed]}
    handler = signal.getsignal(signal.SIGINT)
    stopped = dv.study(pipe, out=tmp_path, **arguments)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped.table(["row"]).column("row").to_pylist() == [0, 1, 2]
    assert "the finished rows are stored" in capsys.readouterr().err
    assert dv.study(pipe, out=tmp_path, **arguments).is_complete
    assert calls == 8


def test_the_bar_tells_rows_per_hour_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    bar = Progress(total=100, done=40, shown=True)
    bar.add(20, 2)
    seconds = time.monotonic() - began
    bar.close()
    line = capsys.readouterr().err.rpartition("\r")[2]
    match = re.search(r" 60% .* 60 of 100 rows, \d\d:\d\d left, ([\d,]+) rows per hour, 2 failed", line)
    assert match, line
    assert int(match[1].replace(",", "")) >= int(3600 * 20 / seconds), "of the rows made since, not of those before"


def test_a_second_ctrl_c_ends_at_once(pipe: Any, tmp_path: Path) -> None:
    calls = 0

    def pressed_twice(trace: dv.Trace) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return {"brightness": 1.0}

    stopped = dv.study(pipe, out=tmp_path, **{**ARGUMENTS, "measures": [pressed_twice]})
    assert stopped.finished == 1


def test_a_failed_row_is_kept_and_made_again_on_request(pipe: Any, tmp_path: Path) -> None:
    broken = True

    def sometimes(trace: dv.Trace) -> dict[str, Any]:
        if broken and trace.meta["seed"] == 1:
            raise RuntimeError("no luck")
        return {"brightness": 1.0}

    arguments = {**ARGUMENTS, "measures": [sometimes]}
    study = dv.study(pipe, out=tmp_path, **arguments)
    assert study.is_complete
    assert (study.failed, "4 failed" in repr(study)) == (4, True)
    errors = study.table(["seed", "error", "brightness", "words"]).to_pylist()
    assert all((row["error"] is None) == (row["seed"] == 0) for row in errors)
    assert errors[-1]["error"] == "MeasureFailed: the measure sometimes failed: RuntimeError: no luck"
    broken = False
    assert dv.study(pipe, out=tmp_path, **arguments).failed == 4, "only on request"
    retried = dv.study(pipe, out=tmp_path, retry=True, **arguments)
    assert (retried.failed, retried.finished) == (0, 8)


def test_a_study_whose_first_rows_fail_stops(pipe: Any, tmp_path: Path) -> None:
    made = 0

    def only_the_first(trace: dv.Trace) -> dict[str, Any]:
        nonlocal made
        made += 1
        if made > 1:
            raise RuntimeError("no luck")
        return {"brightness": 1.0}

    arguments = {**ARGUMENTS, "seeds": 8, "measures": [only_the_first]}
    with pytest.raises(RuntimeError, match="its first 10 rows failed"):
        dv.study(pipe, out=tmp_path, **arguments)
    assert dv.Study.open(tmp_path).finished == 11


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"prompts": PROMPTS[:1]}, "other prompts"),
        ({"seeds": 5}, r"other seeds \(0, 1 there, 5 from 0 to 4 now\)"),
        (
            {"conditions": ["uniform"]},
            r"other conditions \(plain: no settings; strong: guidance_scale 9 there, uniform: schedule",
        ),
        ({"measures": ["attention", "overlap"]}, "other measures"),
        (
            {"num_inference_steps": 3},
            r"other pipeline arguments \(num_inference_steps 2 there, num_inference_steps 3 now",
        ),
        ({"keep_traces": "compact"}, "other keep_traces"),
        ({"threads": 7}, "other threads"),
        ({"model": pipelines.stable_diffusion}, "other model"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_another_study_in_the_same_folder_is_refused(
    study: dv.Study, pipe: Any, change: dict[str, Any], label: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in study.folder.rglob("*")}
    with pytest.raises(ValueError, match=f"holds a study with {label}"):
        dv.study(**{"model": pipe, "out": study.folder, **ARGUMENTS, **change})
    assert {path: path.stat().st_mtime_ns for path in study.folder.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_a_folder_that_cannot_be_used_is_refused(pipe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    for out, message in ((tmp_path, "holds other files"), (tmp_path / "file", "is a file")):
        with pytest.raises((ValueError, OSError), match=message):
            dv.study(pipe, out=out, **ARGUMENTS)
    with pytest.raises(OSError, match="cannot be written to"):
        dv.study(pipe, out="/proc/study", **ARGUMENTS)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing more to a file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_named_and_costs_one_part(
    study: dv.Study, pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 2)
    with largest_file(9_000), pytest.raises(OSError, match=r"rows cannot be written to .* then resume the study"):
        dv.study(pipe, out=tmp_path, **ARGUMENTS)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".part")]
    assert comparable(dv.study(pipe, out=tmp_path, **ARGUMENTS)) == comparable(study)


def test_a_study_resumes_from_its_folder_alone(study: dv.Study, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "conditions": {"plain": {}, "strong": {"guidance_scale": 9.0}}}
    dv.study(None, out=tmp_path, shard=(0, 2), **arguments)
    resumed = dv.Study.open(tmp_path).resume(progress=False)
    assert comparable(resumed) == comparable(study)
    with pytest.raises(ValueError, match="does not store; give it"):
        study.resume(progress=False)


def test_traces_are_stored_where_asked_for(pipe: Any, tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "prompts": ["a red circle"], "seeds": [3], "conditions": None}
    study = dv.study(pipe, out=tmp_path, keep_traces="compact", **arguments)
    trace = study.trace(0)
    assert (trace.prompt, trace.is_compact, trace.meta["seed"]) == ("a red circle", True, 3)
    assert study.table(["trace_file"]).column(0).to_pylist() == [f"traces/{next((tmp_path / 'traces').iterdir()).name}"]
    with pytest.raises(IndexError, match="row 1 is out of range"):
        study.trace(1)


def test_rows_without_a_trace_and_columns_that_are_not_there_are_named(study: dv.Study) -> None:
    with pytest.raises(ValueError, match="row 0 has no trace file"):
        study.trace(0)
    with pytest.raises(ValueError, match="no column 'attention_mas'; did you mean 'attention_mass'"):
        study.table(["attention_mas"])


def test_a_damaged_study_is_named(study: dv.Study, tmp_path: Path) -> None:
    for name in ("study.json", "prompts.jsonl"):
        (tmp_path / name).write_bytes((study.folder / name).read_bytes())
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "all-0.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ValueError, match="is damaged"):
        dv.Study.open(tmp_path).table()
    (tmp_path / "prompts.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"study\.json is damaged"):
        dv.Study.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no study"):
        dv.Study.open(tmp_path / "none")
