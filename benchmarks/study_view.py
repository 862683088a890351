"""The view of a study of 10,000 rows in a real JupyterLab: `python -m benchmarks.study_view`; two minutes.

The study is synthetic: 500 prompts with ten seeds under two conditions, and curves of 10 steps. Measured are the time
from running the cell to the first image; the elements of the page; the time from a scroll event through its handler and
rendering to the end of the paint that follows, over 200 scrolls through the whole study; and the time from a filter to
the images that pass it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests import chromium
from tests.browser.lab import open_notebook, serve
from tests.studies.stored import store

# Each scroll: set the place, wait for its event, and for the frame that paints it. Two marks around the rendering come
# from a handler that the page calls before the grid's own, and from a task after the frame.
SCROLL = """async (scrolls) => {
    const grid = document.querySelector('[data-testid=grid]');
    const spent = [], nodes = [];
    let began = 0;
    grid.addEventListener('scroll', () => { began = performance.now(); }, { capture: true });
    const last = grid.scrollHeight - grid.clientHeight;
    for (let k = 1; k <= scrolls; k++) {
        began = 0;
        // short moves, and jumps as of the scroll bar
        grid.scrollTop = k % 4 ? Math.min(last, grid.scrollTop + 137) : last * k / scrolls;
        await new Promise((done) => {
            const wait = () => requestAnimationFrame(() => {
                if (!began) { wait(); return; }
                const channel = new MessageChannel();
                channel.port1.onmessage = () => { spent.push(performance.now() - began); done(); };
                channel.port2.postMessage(0);
            });
            wait();
        });
        nodes.push(grid.closest('.dv').querySelectorAll('*').length);
    }
    return { spent, nodes: Math.max(...nodes) };
}"""
ONE = """async ([k, scrolls]) => {
    const grid = document.querySelector('[data-testid=grid]');
    const last = grid.scrollHeight - grid.clientHeight;
    grid.scrollTop = k % 4 ? Math.min(last, grid.scrollTop + 137) : last * k / scrolls;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
FILL = "() => !document.querySelector('[data-testid=grid] [data-row]:not(:has(img))')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=500, help="with 20 rows each")
    parser.add_argument("--folder", type=Path, help="a folder for the study, which is then kept")
    parser.add_argument("--width", type=int, default=1400)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = chosen.folder or Path(temporary, "study")
        if not folder.exists():
            store(folder, chosen.prompts, 10)
        browser = playwright.chromium.launch(executable_path=str(chromium.find()), args=chromium.FLAGS)
        with serve(Path(temporary, "lab")) as lab:
            code = f"import diffvis_widget as dv\nview = dv.Study.open({str(folder)!r}).show()\nview"
            with open_notebook(
                browser, lab, lab.add("study.ipynb", "import diffvis_widget", code), chosen.width
            ) as notebook:
                measure(notebook)
        browser.close()


def processor_time(page: Any, k: int) -> float:
    """Milliseconds of the main thread for one scroll, from its event to its paint, and for this call itself."""
    if k == 1:
        page.study_session = page.context.new_cdp_session(page)
        page.study_session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
        page.study_session.send("Performance.enable")

    def spent() -> float:
        metrics = page.study_session.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    before = spent()
    page.evaluate(ONE, [k, 100])
    return 1000 * (spent() - before)


def measure(notebook: Any) -> None:
    page = notebook.page
    notebook.run_cell(0)
    notebook.idle()
    began = time.perf_counter()
    notebook.run_all()
    page.get_by_test_id("grid").locator("img").first.wait_for(timeout=300_000)
    count, seconds = page.get_by_test_id("count").inner_text(), time.perf_counter() - began
    print(f"{count}; first one {seconds:.1f} s after the cell began")
    page.wait_for_function(FILL)
    measured = page.evaluate(SCROLL, 200)
    spent = sorted(measured["spent"])
    late = spent[int(len(spent) * 0.95)]
    print(
        f"scroll to paint: median {statistics.median(spent):.1f} ms, 95th percentile {late:.1f} ms (bar 16), longest "
        f"{spent[-1]:.1f} ms; {measured['nodes']} elements at most (bar 500)"
    )
    spent = sorted(processor_time(page, k) for k in range(1, 101))
    print(
        f"main thread per scroll: median {statistics.median(spent):.1f} ms, 95th percentile "
        f"{spent[95]:.1f} ms; unlike the time to the paint it says the same on a busy machine"
    )
    began = time.perf_counter()
    page.wait_for_function(FILL)
    print(f"all images on the page {time.perf_counter() - began:.2f} s after the last scroll")
    began = time.perf_counter()
    page.get_by_label("condition").get_by_text("early").click()
    page.wait_for_function("() => document.querySelector('[data-testid=count]').textContent.startsWith('5,000 of')")
    page.wait_for_function(FILL)
    print(f"filter to images: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
