"""The view of a study of 10,000 rows in a real JupyterLab: `python -m benchmarks.study_view`; two minutes.

The study is synthetic: 500 prompts with ten seeds under two conditions, and curves of 10 steps. Measured are the time
from running the cell to the first image; the elements of the page; over 200 scrolls through the whole study, the time
from a scroll event to the end of the frame that paints it (handler, layout, paint, and handing over to the compositor),
where each scroll waits for the images of the one before, where it does not, and for an empty list of that size and
height, which is what any scroll takes on this machine; and the time from a filter to the images that pass it.
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

# A scroll event runs in the frame that paints it. The time begins in a listener before all others and ends in the task
# after the frame. Three short moves, then a jump as of the scroll bar, after which no image stays.
SCROLL = """async ([selector, scrolls, waits]) => {
    const grid = document.querySelector(selector);
    const frame = () => new Promise(requestAnimationFrame);
    const spent = [], nodes = [];
    let began = 0;
    const begin = () => { began = performance.now(); };
    grid.scrollTop = 0;
    await frame();
    await frame();
    grid.addEventListener('scroll', begin, { capture: true });
    const last = grid.scrollHeight - grid.clientHeight;
    for (let k = 1; k <= scrolls; k++) {
        began = 0;
        const top = k % 4 ? grid.scrollTop + 137 : last * k / scrolls;
        grid.scrollTop = top > last ? 0 : top;
        while (!began) await frame();
        await new Promise((done) => {
            const channel = new MessageChannel();
            channel.port1.onmessage = done;
            channel.port2.postMessage(0);
        });
        spent.push(performance.now() - began);
        nodes.push(grid.closest('.dv').querySelectorAll('*').length);
        while (waits && grid.querySelector('[data-row]:not(:has(img))')) await frame();
    }
    grid.removeEventListener('scroll', begin, { capture: true });
    return { spent, nodes: Math.max(...nodes) };
}"""
# An empty list of the grid's size and height, above it for as long as it is measured.
EMPTY = """() => {
    const grid = document.querySelector('[data-testid=grid]');
    const [list, sheet] = [document.createElement('div'), document.createElement('div')];
    list.id = 'empty-list';
    list.style.cssText = `height: ${grid.clientHeight}px; overflow: hidden auto; contain: strict`;
    sheet.style.height = `${grid.scrollHeight}px`;
    list.append(sheet);
    grid.before(list);
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


def scroll(page: Any, name: str, selector: str, waits: bool = False) -> None:
    measured = page.evaluate(SCROLL, [selector, 200, waits])
    spent = sorted(measured["spent"])
    print(
        f"scroll to paint, {name}: median {statistics.median(spent):.1f} ms, 95th percentile "
        f"{spent[int(len(spent) * 0.95)]:.1f} ms (required 16), longest {spent[-1]:.1f} ms; "
        f"{measured['nodes']} elements at most (required 500)",
        flush=True,
    )


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
    scroll(page, "images there before the next scroll", "[data-testid=grid]", waits=True)
    scroll(page, "one scroll after the other", "[data-testid=grid]")
    page.evaluate(EMPTY)
    scroll(page, "an empty list", "#empty-list")
    page.evaluate("document.querySelector('#empty-list').remove()")
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
