"""A study that is killed twice, as a researcher may see it: `python -m benchmarks.killed_study`; 20 minutes, one core.

It runs `diffvis study` on 50 prompts of the scenes world with four seeds in a process of its own, which it ends with
SIGKILL after a third of the rows and again after two thirds, and resumes it with `diffvis study resume`. The table must
then equal that of an undisturbed study, in all columns but the seconds. The report is opened in a browser without a
network, which must show its images and its stored runs without a request. Both folders and the report stay, and
`--stages` runs some of the stages only, for a machine that is not free for so long.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import diffvis_widget as dv
from diffvis_widget.scenes import draw

SEEDS = 4
STAGES = ["kill", "kill again", "resume", "undisturbed", "compare", "report"]
COMMAND = [sys.executable, "-m", "diffvis_widget.cli", "study"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path("killed-study"))
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    chosen = parser.parse_args()
    folder: Path = chosen.folder
    folder.mkdir(parents=True, exist_ok=True)
    prompts = folder / "prompts.csv"
    captions = dict.fromkeys(draw(3_000_000 + seed, held_out=True).caption for seed in range(chosen.rows))
    prompts.write_text("\n".join(["prompt", *list(captions)[: chosen.rows // SEEDS]]) + "\n")

    where = ["--executor", "ray", "--actors", "2"] if chosen.executor == "ray" else []
    options = ["--seeds", str(SEEDS), "--measures", "scores,attention", "--steps", str(chosen.steps), *where]
    options += ["--keep-traces", "compact"]
    killed, undisturbed = folder / "killed", folder / "undisturbed"
    start = [*COMMAND, str(prompts), *options, "--out", str(killed)]
    resume = [*COMMAND, "resume", str(killed), *where]
    report = folder / "report.html"
    for stage in chosen.stages:
        began = time.perf_counter()
        match stage:
            case "kill":
                outcome = f"{kill_after(chosen.rows // 3, killed, start)} of {chosen.rows} rows are stored"
            case "kill again":
                outcome = f"{kill_after(2 * chosen.rows // 3, killed, resume)} of {chosen.rows} rows are stored"
            case "resume":
                subprocess.run(resume, check=True)
                outcome = repr(dv.Study.open(killed))
            case "undisturbed":
                subprocess.run([*COMMAND, str(prompts), *options, "--out", str(undisturbed)], check=True)
                outcome = repr(dv.Study.open(undisturbed))
            case "compare":
                tables = [dv.Study.open(path).table().drop(["seconds"]) for path in (killed, undisturbed)]
                assert tables[0].num_rows == chosen.rows
                outcome = f"{tables[0].num_rows} rows, {tables[0].num_columns} columns: equal {same(*tables)}"
            case _:
                subprocess.run([*COMMAND, "report", str(killed), "--html", str(report)], check=True)
                outcome = opened(report, chosen.steps)
        print(f"{stage}: {time.perf_counter() - began:.0f} s; {outcome}", flush=True)


def opened(report: Path, steps: int) -> str:
    """Opens a report in a browser without a network, and the first run in it; tells what is there."""
    from playwright.sync_api import expect, sync_playwright

    from tests import chromium

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium.find()), args=chromium.FLAGS)
        context = browser.new_context(offline=True)
        requests: list[str] = []
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.goto(report.resolve().as_uri())
        images = page.locator(".images img")
        expect(images.last).to_have_js_property("complete", value=True)
        shown = images.evaluate_all("(images) => images.filter((image) => image.naturalWidth > 0).length")
        page.locator("details summary").first.click()
        run = page.frame_locator("details iframe").first
        expect(run.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(steps), timeout=60_000)
        charts, runs = page.locator(".charts svg").count(), page.locator("details iframe").count()
        browser.close()
    others = [url for url in requests if not re.match(r"(data|blob|about):", url) and url != report.resolve().as_uri()]
    assert not others, others
    size = report.stat().st_size / 1e6
    return f"{size:.1f} MB, no request; {shown} images, {charts} charts, {runs} runs, the first of which opens"


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
