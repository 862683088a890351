"""A study that is killed twice, as a researcher may see it: `python -m benchmarks.killed_study`; an hour on one thread.

It runs `diffvis study` on 50 prompts of the scenes world with four seeds and 10 steps in a process of its own, ends
that with SIGKILL after a third of the rows and again after two thirds, and resumes it with `diffvis study resume`. The
table must then equal that of an undisturbed study, in all columns but the seconds. Both folders and the report stay.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import diffvis_widget as dv
from diffvis_widget.scenes import draw

STEPS, SEEDS = 10, 4
COMMAND = [sys.executable, "-m", "diffvis_widget.cli", "study"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path("killed-study"))
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    prompts = chosen.folder / "prompts.csv"
    captions = dict.fromkeys(draw(3_000_000 + seed, held_out=True).caption for seed in range(chosen.rows))
    prompts.write_text("\n".join(["prompt", *list(captions)[: chosen.rows // SEEDS]]) + "\n")

    where = ["--executor", "ray", "--actors", "2"] if chosen.executor == "ray" else []
    options = ["--seeds", str(SEEDS), "--measures", "scores,attention", "--steps", str(STEPS), *where]
    killed, undisturbed = chosen.folder / "killed", chosen.folder / "undisturbed"
    start = [*COMMAND, str(prompts), *options, "--out", str(killed)]
    resume = [*COMMAND, "resume", str(killed), *where]
    began = time.perf_counter()
    for share, command in ((1 / 3, start), (2 / 3, resume)):
        finished = kill_after(int(share * chosen.rows), killed, command)
        print(
            f"killed with {finished} of {chosen.rows} rows stored, after {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    subprocess.run(resume, check=True)
    resumed = time.perf_counter()
    print(f"resumed and complete after {resumed - began:.0f} s", flush=True)
    subprocess.run([*COMMAND, str(prompts), *options, "--out", str(undisturbed)], check=True)
    print(f"undisturbed: {time.perf_counter() - resumed:.0f} s", flush=True)
    tables = [dv.Study.open(folder).table().drop(["seconds"]) for folder in (killed, undisturbed)]
    assert tables[0].num_rows == chosen.rows
    print(f"{tables[0].num_rows} rows, {tables[0].num_columns} columns: equal {same(*tables)}")
    subprocess.run([*COMMAND, "report", str(killed), "--html", str(chosen.folder / "report.html")], check=True)


def same(a: Any, b: Any) -> bool:
    """Whether two tables are equal to the bit; a NaN equals itself."""
    columns = a.column_names
    return columns == b.column_names and all(
        repr(a.column(name).to_pylist()) == repr(b.column(name).to_pylist()) for name in columns
    )


def kill_after(rows: int, folder: Path, command: list[str]) -> int:
    """Starts the command, kills it once so many rows are stored, and returns how many are."""
    process = subprocess.Popen(command)
    while stored(folder) < rows:
        assert process.poll() is None, "the study ended before it was killed"
        time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return stored(folder)


def stored(folder: Path) -> int:
    return dv.Study.open(folder).finished if (folder / "study.json").exists() else 0


if __name__ == "__main__":
    main()
