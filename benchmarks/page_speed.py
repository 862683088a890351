"""The speed of a page that paints in a headless Chromium, each figure beside its required value.

    python -m benchmarks.page_speed [--runs 20]

The page is opened from a file with the network off. A run has 30 steps and two concepts. Times are those that a reader
sees: from the key press to the frame in which the result is drawn. The required values are for two idle cores; the load
of the machine is printed with the figures. The last figure, from Chromium's own trace of further runs, is processor
time: how long the page's thread works at a stretch. Where a block takes longer, the thread waited for a processor.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

import diffvis_widget as dv
from benchmarks.feel import Figure, report
from diffvis_widget import front_end
from diffvis_widget.scenes.page.weights import SOURCES, page_graph, page_weights
from tests import chromium

COLORS, SHAPES = ("red", "blue", "green", "yellow", "purple"), ("circle", "square", "star", "ring")
PROMPTS = [f"a {color} {shape} above a white heart" for shape in SHAPES for color in COLORS]
STEPS, CONCEPTS = 30, ("circle", "red")
COMPLETE = 5  # runs whose exact frames and meters are waited for
TRACED = 3  # runs of which Chromium traces the tasks
MOST = 600_000  # ms that anything may take

# Notes when things happen: keys, messages of the worker, and the frame after each; and what blocks the page.
WATCH = """
(() => {
    const lines = `
        const Memory = WebAssembly.Memory, memories = [];
        WebAssembly.Memory = class extends Memory { constructor(type) { super(type); memories.push(this); } };
        self.addEventListener('message', (event) => {
            if (event.data.type !== 'memory') return;
            event.stopImmediatePropagation();
            event.data.port.postMessage(memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));
        });
    `;
    const OriginalBlob = Blob, OriginalWorker = Worker;
    window.Blob = class extends OriginalBlob {
        constructor(parts, options) {
            super(options?.type === 'text/javascript' ? [lines, ...parts] : parts, options);
        }
    };
    // Each press of Enter has its own record: what an earlier run still sends or draws never counts for a later one.
    window.ready = 0;
    window.times = null;
    const runs = new Map();
    const start = (event) => {
        if (event.key !== 'Enter' || !event.target.matches('[data-testid=prompt-input]')) return;
        window.times = { enter: performance.now(), run: null, first: 0, end: 0, complete: 0, error: '' };
    };
    addEventListener('keydown', start, true);
    const drawn = (times, name) =>
        requestAnimationFrame(() => setTimeout(() => (times[name] ||= performance.now())));
    const note = (content) => {
        if (content.type === 'run' && !runs.has(content.run)) {
            runs.set(content.run, { times: window.times, planned: content.steps, exact: new Set(), scored: new Set() });
            if (window.times) window.times.run ??= content.run;
        }
        const run = runs.get(content.run);
        const times = run?.times;
        if (times?.run !== content.run) return;
        if (content.type === 'step') {
            if (content.exact) run.exact.add(content.index);
            drawn(times, 'first');
        }
        if (content.type === 'frame' && content.view === 'prediction') run.exact.add(content.index);
        if (content.type === 'scores')
            for (const i of content.cosine.keys())
                if (content.cosine[i].length > 0) run.scored.add(content.start + i);
        if (content.type === 'end') {
            if (content.state !== 'done' || content.steps !== run.planned)
                times.error = `the run ended as ${content.state} after ${content.steps} of ${run.planned} steps`;
            run.isOver = true;
            drawn(times, 'end');
        }
        if (run.isOver && run.scored.size === run.planned && run.exact.size === run.planned) drawn(times, 'complete');
    };
    window.Worker = class extends OriginalWorker {
        constructor(url) {
            super(url);
            window.engine = this;
            this.addEventListener('message', ({ data: { type, content } }) => {
                if (type === 'ready') window.ready = performance.now();
                if (type === 'message') note(content);
            });
        }
    };
    window.blocks = [];
    new PerformanceObserver((list) => {
        for (const { startTime, duration } of list.getEntries()) window.blocks.push([startTime, duration]);
    }).observe({ type: 'longtask', buffered: true });
})()
"""
MEMORY = """
() => new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    window.engine.postMessage({ type: 'memory', port: port2 }, [port2]);
})
"""


def parts(path: Path) -> list[tuple[str, int]]:
    """What each part of the page weighs, in bytes."""
    source = path.read_text(encoding="utf-8")

    def block(name: str) -> int:
        match = re.search(rf'id="{name}">(.*?)</script>', source, re.DOTALL)
        assert match is not None
        return len(match[1].encode())

    model = block("dv-model")
    compressed = {name: len(gzip.compress(page_weights(name), 6)) for name in SOURCES}
    weights = {name: len(base64.b64encode(bytes(size))) for name, size in compressed.items()}
    script, style = front_end.standalone()
    sizes = {
        **{f"weights of {name}, half precision, gzip, base64": size for name, size in weights.items()},
        "graphs without weights, tokenizer, settings": model - sum(weights.values()),
        "onnxruntime-web, its CPU program, gzip, base64": block("dv-wasm"),
        "worker": block("dv-engine"),
        "front end": len((script + style).encode()),
    }
    graphs = sum(len(page_graph(name)) for name in SOURCES)
    print(f"graphs in the package: {graphs / 1000:.0f} kB; onnxruntime's program, unpacked: ", end="")
    print(f"{len(gzip.decompress(front_end.engine()[1])) / 1e6:.1f} MB")
    return [*sizes.items(), ("the rest of the page", path.stat().st_size - sum(sizes.values()))]


def wait(page: Page, value: str) -> Any:
    """The value of an expression, once it is one."""
    return page.wait_for_function(f"() => {value}", timeout=MOST).json_value()


def paint(page: Page, prompt: str, is_complete: bool) -> dict[str, float]:
    """Times of a run, in ms. RuntimeError if it did not come to its end, or if its times are out of order."""
    field = page.get_by_test_id("prompt-input")
    field.fill(prompt)
    page.evaluate("() => { window.times = null; }")
    field.press("Enter")
    last = "complete" if is_complete else "end"
    times = wait(page, f"window.times && (window.times.error || window.times.{last}) && window.times")
    order = [times[name] for name in ("enter", "first", "end", last)]
    if times["error"] or order != sorted(order):
        raise RuntimeError(f"{prompt!r}: {times['error'] or f'the times are out of order: {times}'}")
    return times


def measure(page: Page, path: Path, runs: int) -> list[Figure]:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    ready = wait(page, "window.ready")
    for concept in CONCEPTS:
        page.get_by_test_id("add-concept").fill(concept)
        page.get_by_test_id("add-concept").press("Enter")
    times: list[dict[str, float]] = []
    memory: dict[int, float] = {}
    for run in range(1, runs + 1):
        times.append(paint(page, PROMPTS[(run - 1) % len(PROMPTS)], run <= COMPLETE))
        if run in (3, runs):
            memory[run] = page.evaluate(MEMORY) / 1e6
    blocks: list[Any] = page.evaluate("() => window.blocks")
    longest = [
        max((length for start, length in blocks if time["enter"] <= start <= time["end"]), default=0.0)
        for time in times
    ]

    def median(to: str) -> float:
        return statistics.median(time[to] - time["enter"] for time in times[:COMPLETE])

    few, many = memory[min(3, runs)], memory[runs]
    addresses = [url for url in requests if not url.startswith(("blob:", "data:"))]
    return [
        Figure("opening the file to ready", ready / 1000, 4, "s", 2),
        Figure(f"Enter to the first new frame, median of {COMPLETE}", median("first"), 500, "ms", 0),
        Figure(f"{STEPS} steps with maps and previews, median of {COMPLETE}", median("end") / 1000, 5, "s", 2),
        Figure(f"exact frames and meters complete, median of {COMPLETE}", median("complete") / 1000, 10, "s", 2),
        Figure(
            "longest block while sampling (0: below 50), median of all runs", statistics.median(longest), 50, "ms", 0
        ),
        Figure("longest block while sampling, largest of all runs", max(longest), 50, "ms", 0),
        Figure("file", path.stat().st_size / 1e6, 28, "MB"),
        Figure("wasm memory after 3 runs", few, 400, "MB", 0),
        Figure(f"wasm memory after {runs} runs", many, 400, "MB", 0),
        Figure(f"wasm memory after {runs} runs over that after 3", many / few, 1.2, "x", 2),
        Figure("requests beside the page itself", len(addresses) - 1, 0, "", 0),
    ]


def longest_work(browser: Browser, page: Page, path: Path) -> float:
    """Trace the page's thread during its first runs.

    Args:
        browser: The browser.
        page: A new page of it.
        path: The page that paints.

    Returns:
        The longest processor time of a task of that thread, in ms.
    """
    page.goto(path.as_uri())
    wait(page, "window.ready")
    browser.start_tracing(page=page, categories=["toplevel", "blink.user_timing"])
    page.evaluate("() => performance.mark('first run')")
    for prompt in PROMPTS[:TRACED]:
        paint(page, prompt, False)
    events = json.loads(browser.stop_tracing())["traceEvents"]
    (mark,) = [event for event in events if event["name"] == "first run"]
    thread = (mark["pid"], mark["tid"])
    return max(
        event.get("tdur", 0) / 1000
        for event in events
        if (event["pid"], event["tid"]) == thread and event["ts"] > mark["ts"] and "RunTask" in event["name"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="runs before the memory is measured again, 5 at least")
    options = parser.parse_args()
    if options.runs < COMPLETE:
        parser.error(f"--runs must be {COMPLETE} at least")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = dv.playground(Path(folder, "page.html"))
        print("| part | in the file, MB |\n|---|---|")
        for name, size in parts(path):
            print(f"| {name} | {size / 1e6:.2f} |")
        before = os.getloadavg()[0]
        browser = playwright.chromium.launch(executable_path=str(chromium.find()), args=chromium.FLAGS)
        context = browser.new_context(offline=True)
        context.add_init_script(WATCH)
        figures = measure(context.new_page(), path, options.runs)
        work = longest_work(browser, context.new_page(), path)
        figures.append(Figure(f"longest task of the page's thread, processor time, {TRACED} runs", work, 50, "ms", 0))
        browser.close()
    print(f"load of the machine: {before:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores")
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
