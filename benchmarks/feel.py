"""Responsiveness of the widget in a real Chromium, each figure beside its required value.

    python -m benchmarks.feel

The run of the first figures is synthetic: 30 steps, 512 px, maps of 64 x 64, six selected words. Figures that need the
scenes model are measured in this process, without a notebook: the time from a request to the first step on the wire,
and the duration of a run beside that of the same call of the bare pipeline, in turns. On a busy machine, these ratios
say more than the times.

    python -m benchmarks.feel costs      # only what a run in the widget costs
    python -m benchmarks.feel threads    # the processor time of such a run by thread, also on a busy machine
    python -m benchmarks.feel calls      # only the duration of calls of the built-in model, bare and traced
    python -m benchmarks.feel places     # only how long the attention of a clicked place takes
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from diffvis_widget.front_end import STATIC
from diffvis_widget.wire.shrink import snapshot
from tests import chromium
from tests.browser.bare import a_run, open_bare

STEPS, SIZE, GRID = 30, 512, 64
LIMITS = json.loads((Path(__file__).parent.parent / "js" / "limits.json").read_text(encoding="utf-8"))  # bytes
PROMPT = "a red circle above a square"

# One pointer move per frame for two seconds, back and forth over the slider. The handler and the drawing that it causes
# run inside the dispatch, because signals draw at once, and in the microtasks after it, where Preact renders.
SCRUB = """async () => {
    const slider = document.querySelector('[data-testid=slider]');
    const box = slider.getBoundingClientRect();
    const at = (type, x) =>
        new PointerEvent(type, { clientX: x, clientY: box.top + 5, button: 0, pointerId: 1, bubbles: true });
    slider.setPointerCapture = () => {};
    slider.hasPointerCapture = () => true;
    slider.dispatchEvent(at('pointerdown', box.left + 1));
    const spent = [], frames = [];
    const began = performance.now();
    let last = began;
    while (performance.now() - began < 2000) {
        await new Promise(requestAnimationFrame);
        const now = performance.now();
        frames.push(now - last);
        last = now;
        const turn = ((now - began) / 1000) % 2;
        const x = box.left + 1 + (box.width - 2) * (turn < 1 ? turn : 2 - turn);
        const before = performance.now();
        slider.dispatchEvent(at('pointermove', x));
        for (let i = 0; i < 4; i++) await null;
        spent.push(performance.now() - before);
    }
    return { spent, frames };
}"""


@dataclass
class Figure:
    name: str
    value: float
    required: float
    unit: str
    digits: int = 1

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.required else "MISSED"
        value, required = f"{self.value:.{self.digits}f}", f"{self.required:.{self.digits}f}"
        return f"{self.name:<62} {value:>9} {self.unit:<4} required {required:>7}  {verdict}"


def scrub(browser: Browser) -> list[Figure]:
    messages = a_run(PROMPT, steps=STEPS, size=SIZE, grid=GRID, concepts=["circle", "square", "red", "blue"])
    shown = {"selected": list(range(6)), "concepts": ["circle", "square", "red", "blue"]}
    with open_bare(browser, messages, motion=True, **shown) as bare:
        bare.slider.focus()
        bare.slider.press("Home")
        for _ in range(STEPS):  # decodes each frame once, as for a user who has seen the run
            bare.slider.press("ArrowRight")
            bare.frames()
        measured = bare.page.evaluate(SCRUB)
    spent = sorted(measured["spent"])
    # A frame is dropped where the time between two paints exceeds one and a half times the median.
    usual = statistics.median(measured["frames"])
    dropped = sum(gap > 1.5 * usual for gap in measured["frames"][1:])
    return [
        Figure("slider move to end of drawing, 95th percentile", spent[int(len(spent) * 0.95)], 8, "ms"),
        Figure("slider move to end of drawing, median", statistics.median(spent), 8, "ms"),
        Figure(f"dropped frames in a scrub of 2 s ({len(spent)} frames)", dropped, 0, ""),
    ]


def sizes() -> list[Figure]:
    saved = snapshot(a_run(PROMPT, steps=STEPS, size=SIZE, grid=GRID))
    return [
        Figure("bundle, JavaScript", (STATIC / "widget.js").stat().st_size / 1000, LIMITS["widget.js"] / 1000, "kB"),
        Figure("bundle, style sheet", (STATIC / "widget.css").stat().st_size / 1000, LIMITS["widget.css"] / 1000, "kB"),
        Figure("saved state of a finished 30-step run of 512 px", len(saved) / 1000, 1000, "kB"),
    ]


def runs() -> list[Figure]:
    """Times from requesting a run to its first step on the wire, with the built-in model."""
    from diffvis_widget.widget.widget import DiffVis

    arrived = threading.Event()

    class Timed(DiffVis):
        def send(self, content: Any, buffers: Any = None) -> None:
            if content.get("type") == "step":
                arrived.set()

    def first_step(ask: Any) -> float:
        arrived.clear()
        began = time.perf_counter()
        ask()
        assert arrived.wait(120)
        return time.perf_counter() - began

    began = time.perf_counter()
    widget = Timed(seed=7, steps=30, concepts=["circle", "square"])
    created = time.perf_counter() - began
    widget.wait(120)
    widget.prompt = PROMPT
    cold = first_step(widget.run)
    widget.wait(120)
    edited: list[float] = []
    for prompt in ("a blue circle", "a green star", "a red square", "a yellow circle", "a blue star"):
        edit = {"type": "run", "prompt": prompt}
        edited.append(first_step(lambda edit=edit: widget._handle_custom_msg(edit, [])))
        widget.wait(120)
    widget.close()
    return [
        Figure("widget created while the model is loading", created * 1000, 1000, "ms"),
        Figure("first frame once the model is loaded", cold * 1000, 1000, "ms"),
        Figure(
            "Enter on an edited prompt to the first new frame, median of 5", statistics.median(edited) * 1000, 300, "ms"
        ),
    ]


@contextmanager
def silent_runs() -> Iterator[dict[str, Callable[[], Any]]]:
    """The same call of the built-in model: bare, and in two widgets whose pages receive nothing. All are warm."""
    import numpy as np
    import torch

    import diffvis_widget as dv

    class Silent(dv.DiffVis):
        def send(self, content: Any, buffers: Any = None) -> None:
            pass

    pipe: Any = dv.load()
    concepts = {"without concepts": [], "with four concepts": ["circle", "square", "red", "blue"]}
    widgets = {name: Silent(pipe, seed=7, steps=STEPS, concepts=words) for name, words in concepts.items()}

    def bare() -> Any:
        rest()
        return pipe(PROMPT, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(7)).images[0]

    def run(widget: Silent) -> None:
        widget.run()
        widget.wait(300)

    def rest() -> None:
        """Waits for the noisy images, which are decoded after a run: they would slow down the one that comes next."""
        for widget in widgets.values():
            while any(run.inexact_latents for run in widget._session.history.runs[-1:]):
                time.sleep(0.05)

    try:
        for widget in widgets.values():
            widget.prompt = PROMPT
            run(widget)
            assert np.array_equal(widget.trace.image, np.asarray(bare()))
        runs = {name: functools.partial(run, widget) for name, widget in widgets.items()}
        yield {"rest": rest, "bare": bare, **runs}
    finally:
        for widget in widgets.values():
            widget.close()


def costs(pairs: int = 10) -> list[Figure]:
    """Durations of a run in the widget, over those of the bare pipeline in the same turn."""
    with silent_runs() as runs:
        rest, bare = runs.pop("rest"), runs.pop("bare")

        def seconds(action: Callable[[], Any]) -> float:
            rest()
            began = time.perf_counter()
            action()
            return time.perf_counter() - began

        ratios: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(pairs):
            plain = seconds(bare)
            for name, run in runs.items():
                ratios[name].append(seconds(run) / plain)
    return [
        Figure(
            f"run {name} over the bare pipeline, median of {pairs}", statistics.median(ratios[name]), required, "x", 2
        )
        for name, required in zip(ratios, (1.25, 1.5), strict=True)
    ]


def threads(turns: int = 3) -> None:
    """Prints the processor time of a run by thread, in milliseconds. That of decodes is in a thread of each run."""
    import psutil

    process = psutil.Process()

    def by_thread() -> dict[str, float]:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        spent = {"all": time.process_time()}
        for thread in process.threads():
            name = names.get(thread.id, "others")
            spent[name] = spent.get(name, 0) + thread.user_time + thread.system_time
        return spent

    with silent_runs() as runs:
        rest = runs.pop("rest")
        for name, run in runs.items():
            turn: list[dict[str, float]] = []
            for _ in range(turns):
                rest()
                before = by_thread()
                run()
                after = by_thread()
                turn.append({key: after[key] - before.get(key, 0) for key in after})
            medians = {key: statistics.median(spent.get(key, 0) for spent in turn) * 1000 for key in turn[0]}
            shown = ", ".join(f"{key} {value:.0f}" for key, value in medians.items() if value > 5)
            print(f"{name}: {shown}")


def calls(turns: int = 5, few: int = 2, many: int = 12) -> None:
    """Prints the durations of calls on one processor thread: for each step, and once; the lowest of some turns."""
    import torch

    import diffvis_widget as dv
    from diffvis_widget.processor_threads import single_threaded

    pipe: Any = dv.load()
    pipe.set_progress_bar_config(disable=True)

    def bare(steps: int) -> None:
        with torch.no_grad():
            pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(7))

    kinds: dict[str, Callable[[int], Any]] = {
        "the bare pipeline": bare,
        "traced, each head": lambda steps: dv.trace(pipe, PROMPT, seed=7, num_inference_steps=steps, keep="heads"),
        "traced, with one concept": lambda steps: dv.trace(
            pipe, PROMPT, seed=7, num_inference_steps=steps, keep="heads", concepts=["sky"]
        ),
    }
    with single_threaded():
        for name, call in kinds.items():
            call(few)
            shortest: dict[int, float] = {}
            for steps in (few, many):
                times: list[float] = []
                for _ in range(turns):
                    began = time.perf_counter()
                    call(steps)
                    times.append(1000 * (time.perf_counter() - began))
                shortest[steps] = min(times)
            step = (shortest[many] - shortest[few]) / (many - few)
            print(f"{name}: {step:.0f} ms for each step, {shortest[few] - few * step:.0f} ms once")


def places(steps: int = 21) -> list[Figure]:
    """Times of `Trace.attention_from` of the scenes model, of the first place of a step and of another one of it.

    On one processor thread, as in the widget, and the processor time beside the elapsed time.
    """
    import diffvis_widget as dv
    from diffvis_widget.processor_threads import single_threaded

    trace = dv.trace(dv.load(), PROMPT, seed=7, num_inference_steps=steps)

    def milliseconds(place: tuple[float, float], step: int) -> tuple[float, float]:
        began, spent = time.perf_counter(), time.thread_time()
        trace.attention_from(place, step)
        return 1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - spent)

    with single_threaded():
        times = [(milliseconds((0.3, 0.5), step), milliseconds((0.7, 0.2), step)) for step in range(steps)]
    return [
        Figure(
            f"{what} of a step, {clock} time, median of {steps - 1}",
            statistics.median(step[click][unit] for step in times[1:]),  # the first one also compares the weights
            50,
            "ms",
        )
        for click, what in enumerate(("first place", "another place"))
        for unit, clock in enumerate(("elapsed", "processor"))
    ]


def main() -> int:
    if sys.argv[1:] == ["costs"]:
        return report(costs())
    if sys.argv[1:] in (["threads"], ["calls"]):
        {"threads": threads, "calls": calls}[sys.argv[1]]()
        return 0
    if sys.argv[1:] == ["places"]:
        return report(places())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium.find()), args=chromium.FLAGS)
        figures = scrub(browser)
        browser.close()
    return report(figures + sizes() + runs() + costs() + places())


def report(figures: list[Figure]) -> int:
    for figure in figures:
        print(figure)
    return int(any(figure.value > figure.required for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
