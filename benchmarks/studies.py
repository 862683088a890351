"""What studies cost: `python -m benchmarks.studies`; some minutes on one thread.

Bookkeeping without a model: rows appended in parts of 20, joined as these become many, and read to find what is
missing. How long it takes until a study of 10,000 rows goes on with the one that is missing. The wall time of a study
with scores and attention, everything included, over that of the bare pipeline for the same images plus the meter's,
interleaved in blocks of 20 rows (the meter is measured on one row of each). The memory of the process after each block.
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
from diffvis_widget.studies.row_maker import RowMaker

PROMPT = "a red circle above a blue square"
STEPS, BLOCK = 10, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bookkeeping", type=int, default=1_000_000, metavar="ROWS")
    parser.add_argument("--stored", type=int, default=10_000, metavar="ROWS", help="rows of the study that is resumed")
    parser.add_argument("--rows", type=int, default=200, help="rows that are run; 0 for none")
    parser.add_argument("--steps", type=int, default=STEPS, help="of these rows")
    parser.add_argument("--batch", type=int, default=1, help="rows of the study that are run together")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.bookkeeping:
            bookkeeping(chosen.bookkeeping, Path(folder))
        if chosen.stored:
            resuming(chosen.stored, Path(folder, "resumed"))
        if chosen.rows:
            wall_time(chosen.rows, chosen.steps, chosen.batch, Path(folder, "run"))


def values(row: int, thumbnail: bytes) -> dict[str, Any]:
    """A row as a study stores it, without a run."""
    curve = [float(step) for step in range(STEPS)]
    entry = {"row": row, "id": f"{row:064x}", "prompt": PROMPT, "seed": row, "condition": "default", "seconds": 1.0}
    return {**entry, "words": PROMPT.split(), "timesteps": curve, "sigmas": curve, "thumbnail": thumbnail}


def bookkeeping(rows: int, folder: Path) -> None:
    (folder / parts.FOLDER).mkdir()
    columns: dict[str, Kind] = dict(BASE)
    writer = PartWriter(folder, columns, "benchmark", joins=True)
    thumbnail = np.random.default_rng(0).bytes(3_000)
    began = time.perf_counter()
    for row in range(rows):
        writer.add(values(row, thumbnail))
        if (row + 1) % 100_000 == 0:
            print(f"{row + 1:,} rows appended after {time.perf_counter() - began:.0f} s", flush=True)
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
    writer = PartWriter(
        folder, manifest.columns, manifest.study
    )  # which does not join: 500 parts, as a kill leaves them
    for row in range(1, rows - 1):
        writer.add(values(row, b""))
    writer.flush()
    seconds: dict[str, float] = {}
    make = RowMaker.make

    def timed(self: RowMaker, *wanted: Any) -> dict[str, Any]:
        seconds["start"] = time.perf_counter() - began
        result = make(self, *wanted)
        seconds["row"] = time.perf_counter() - began - seconds["start"]
        return result

    RowMaker.make = timed  # pyright: ignore[reportAttributeAccessIssue]
    began = time.perf_counter()
    study = dv.study(pipe, [PROMPT], progress=False, **arguments)
    total = time.perf_counter() - began
    RowMaker.make = make
    assert study.is_complete
    print(
        f"{rows:,} rows in {rows // parts.PART_ROWS} parts, one missing: its run starts {seconds['start']:.1f} s after "
        f"the call (required 5), takes {seconds['row']:.1f} s, and the parts are joined {total:.1f} s after the call",
        flush=True,
    )


def wall_time(rows: int, steps: int, batch: int, folder: Path) -> None:
    """A study in blocks, each between the bare pipeline's images of the same rows and the meter's time for them."""
    pipe: Any = dv.load()
    pipe.set_progress_bar_config(disable=True)
    meter_time = bare_time = study_time = 0.0
    memory: dict[int, float] = {}
    arguments: dict[str, Any] = {"measures": ["scores", "attention"], "progress": False, "num_inference_steps": steps}
    arguments["batch"] = batch
    blocks = rows // BLOCK
    # The first block of a study also checks its measures, so a study of one block warms everything up.
    dv.study(pipe, [PROMPT], seeds=BLOCK, out=folder / "warm", **arguments)
    for block in range(blocks):
        seeds = range(block, rows, blocks)
        began = time.perf_counter()
        for seed in seeds:
            with torch.no_grad():
                pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(seed))
        bare_time += time.perf_counter() - began
        trace = dv.trace(pipe, PROMPT, seed=seeds[0], num_inference_steps=steps, keep="words")
        began = time.perf_counter()
        dv.concept_scores(trace, ["red", "circle", "blue", "square"])
        meter_time += len(seeds) * (time.perf_counter() - began)
        began = time.perf_counter()
        dv.study(pipe, [PROMPT], seeds=rows, shard=(block, blocks), out=folder / "run", **arguments)
        study_time += time.perf_counter() - began
        done = (block + 1) * BLOCK
        memory[done] = resident()
        first = 100 if done >= 100 else BLOCK
        print(
            f"{done} rows of {steps} steps with scores and attention, {batch} at once: {study_time:.0f} s, "
            f"{study_time / (bare_time + meter_time):.3f} x the bare pipeline's {bare_time:.0f} s plus the meter's "
            f"{meter_time:.0f} s (required 1.15); memory {memory[done] / memory[first]:.3f} x that after {first} rows "
            f"(required 1.1)",
            flush=True,
        )
    assert dv.Study.open(folder / "run").is_complete


def resident() -> float:
    """Memory of the process in MB, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak() -> float:
    """Peak memory of the process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
