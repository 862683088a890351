"""What studies cost: `python -m benchmarks.studies`; some minutes on one thread.

Bookkeeping without a model: rows appended in parts of 20, joined, and read to find what is missing. Resuming a study of
10,000 rows of which one is missing, that row included. The time of a study with scores and attention over that of the
bare pipeline for the same images plus the meter's, interleaved, and the memory of the process between rows.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diffvis_widget as dv
from diffvis_widget.studies import parts
from diffvis_widget.studies.columns import BASE, Kind
from diffvis_widget.studies.manifest import read
from diffvis_widget.studies.parts import PartWriter

PROMPT = "a red circle above a blue square"
STEPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bookkeeping", type=int, default=1_000_000, metavar="ROWS")
    parser.add_argument("--rows", type=int, default=100, help="rows that are run")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bookkeeping(chosen.bookkeeping, Path(folder))
        resuming(10_000, Path(folder, "resumed"))
        wall_time(chosen.rows, Path(folder, "run"))


def values(row: int, thumbnail: bytes) -> dict[str, Any]:
    """A row as a study stores it, without a run."""
    curve = [float(step) for step in range(STEPS)]
    entry = {"row": row, "id": f"{row:064x}", "prompt": PROMPT, "seed": row, "condition": "default", "seconds": 1.0}
    return {**entry, "words": PROMPT.split(), "timesteps": curve, "sigmas": curve, "thumbnail": thumbnail}


def bookkeeping(rows: int, folder: Path) -> None:
    (folder / parts.FOLDER).mkdir()
    columns: dict[str, Kind] = dict(BASE)
    writer = PartWriter(folder, columns, "benchmark")
    thumbnail = np.random.default_rng(0).bytes(3_000)
    began = time.perf_counter()
    for row in range(rows):
        writer.add(values(row, thumbnail))
    writer.flush()
    appended = time.perf_counter()
    parts.join_parts(folder, "all", "benchmark")
    joined = time.perf_counter()
    table = parts.read_parts(folder, columns, "benchmark", ["row", "error"])
    read_again = time.perf_counter()
    assert table.num_rows == rows
    print(
        f"{rows:,} rows of bookkeeping: appended in {appended - began:.0f} s, joined in {joined - appended:.0f} s, "
        f"read to resume in {read_again - joined:.1f} s; peak memory {peak():.0f} MB",
        flush=True,
    )


def resuming(rows: int, folder: Path) -> None:
    arguments: dict[str, Any] = {"seeds": rows, "measures": [], "out": folder, "num_inference_steps": STEPS}
    pipe = dv.load()
    dv.study(pipe, [PROMPT], shard=(0, rows), progress=False, **arguments)
    manifest, _ = read(folder)
    writer = PartWriter(folder, manifest.columns, manifest.study)
    for row in range(1, rows - 1):
        writer.add(values(row, b""))
    writer.flush()
    began = time.perf_counter()
    study = dv.study(pipe, [PROMPT], progress=False, **arguments)
    assert study.is_complete
    print(f"{rows:,} rows: resumed, and the missing row made, in {time.perf_counter() - began:.1f} s", flush=True)


def wall_time(rows: int, folder: Path) -> None:
    pipe: Any = dv.load()
    pipe.set_progress_bar_config(disable=True)
    meter_time = bare_time = study_time = 0.0
    memory: list[float] = []
    arguments: dict[str, Any] = {"measures": ["scores", "attention"], "progress": False, "num_inference_steps": STEPS}
    for row in range(rows + 1):
        began = time.perf_counter()
        with torch.no_grad():
            pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=7.5, generator=torch.Generator().manual_seed(row))
        bare = time.perf_counter() - began
        trace = dv.trace(pipe, PROMPT, seed=row, num_inference_steps=STEPS, keep="words")
        began = time.perf_counter()
        dv.concept_scores(trace, ["red", "circle", "blue", "square"])
        meter = time.perf_counter() - began
        study = dv.study(pipe, [PROMPT], seeds=[row], out=folder / str(row), **arguments)
        if row:  # the first one warms up
            bare_time, meter_time = bare_time + bare, meter_time + meter
            study_time += study.table(["seconds"]).column("seconds").to_pylist()[0]
        memory.append(resident())
    ratio = study_time / (bare_time + meter_time)
    print(
        f"{rows} rows of {STEPS} steps with scores and attention: {study_time:.0f} s, {ratio:.2f} x the bare "
        f"pipeline's {bare_time:.0f} s plus the meter's {meter_time:.0f} s; memory after row {rows} "
        f"{memory[-1] / memory[rows // 10]:.3f} x that after row {rows // 10}"
    )


def resident() -> float:
    """Memory of the process in MB, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    """Peak memory of the process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
