"""The page that paints where something is wrong: input, browser, memory, surroundings."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import diffvis_widget as dv
from diffvis_widget.traces import Trace
from tests.browser.painting import RECORD, WAIT, Opened, opened

PROMPT = "a red circle"
# The script of the worker begins with these lines.
IN_WORKER = """
(() => {
    const Original = Blob;
    window.Blob = class extends Original {
        constructor(parts, options) {
            super(options?.type === 'text/javascript' ? [%r, ...parts] : parts, options);
        }
    };
})()
"""
NO_MEMORY = """
WebAssembly.Memory = class {
    constructor() { throw new RangeError('WebAssembly.Memory(): could not allocate memory'); }
};
"""
# What Chromium does to a page in a background tab: no animation frames, timers once a second.
BACKGROUND = """
(() => {
    const frames = [], frame = window.requestAnimationFrame.bind(window), timer = window.setTimeout.bind(window);
    let hidden = false;
    Object.defineProperty(document, 'hidden', { get: () => hidden });
    Object.defineProperty(document, 'visibilityState', { get: () => (hidden ? 'hidden' : 'visible') });
    window.requestAnimationFrame = (callback) => (hidden ? -frames.push(callback) : frame(callback));
    window.setTimeout = (callback, delay, ...rest) => timer(callback, hidden ? Math.max(1000, delay) : delay, ...rest);
    window.setHidden = (value) => {
        hidden = value;
        document.dispatchEvent(new Event('visibilitychange'));
        if (!hidden) for (const callback of frames.splice(0)) frame(callback);
    };
})()
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dv.playground(tmp_path_factory.mktemp("pages") / "lab.html")


@pytest.fixture(scope="module")
def trace() -> Trace:
    return dv.trace(dv.load(), PROMPT, seed=0, num_inference_steps=4)


def set_number(shown: Opened, name: str, value: str) -> None:
    field = shown.widget.get_by_role("textbox", name=name)
    field.fill(value)
    field.press("Tab")


def test_numbers_out_of_range_are_refused_and_the_page_goes_on(browser: Browser, lab: Path) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        for name, value, sentence in (
            ("steps", "0", "steps is “0”: it must be a whole number from 1 to 1000."),
            ("steps", "1001", "steps is “1001”: it must be a whole number from 1 to 1000."),
            ("seed", "9007199254740993", "seed is “9007199254740993”: it must be a whole number"),
            ("seed", "-1", "seed is “-1”: it must be a whole number"),
            ("guidance", "NaN", "guidance is “NaN”: it must be a number"),
        ):
            set_number(shown, name, value)
            expect(shown.widget).to_contain_text(sentence)
            shown.widget.get_by_role("textbox", name=name).press("Escape")
        # What no field lets through is refused by the engine, which keeps the settings it has.
        for values, sentence in (
            ("{ steps: 0 }", "steps must be a whole number from 1 to 1000, not 0"),
            ("{ seed: 2 ** 53 }", "seed must be a whole number from 0 to 9007199254740991, not 9007199254740992"),
            ("{ weights: { red: NaN } }", "weights must be numbers from -100 to 100; that of red is NaN"),
            ("{ guidance_scale: NaN }", "guidance_scale must be a number from 0 to 1000, not NaN"),
            ("{ concepts: [''] }", "concepts must be a list of texts"),
        ):
            shown.page.evaluate(f"() => window.engine.postMessage({{ type: 'set', values: {values} }})")
            shown.wait_for("error", f"content.message.includes({sentence!r})")
        set_number(shown, "steps", "1")
        set_number(shown, "seed", str(2**53 - 1))
        shown.paint(PROMPT)
        shown.expect_status("done")
        run = shown.replies("run")[-1]
        assert (run["steps"], run["seed"], run["weights"]) == (1, 2**53 - 1, {})
        assert len(shown.replies("step")) == 1


def test_a_thousand_steps_stop_at_once(browser: Browser, lab: Path) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        set_number(shown, "steps", "1000")
        shown.paint(PROMPT)
        shown.page.evaluate("() => window.engine.postMessage({ type: 'message', message: { type: 'stop' } })")
        shown.expect_status("stopped")
        assert all(content["steps"] <= 1 for content in shown.replies("end"))
        shown.paint("a blue square")
        shown.wait_for("step", "content.index === 2")
        shown.widget.get_by_test_id("stop").click()
        shown.expect_status("stopped")
        end = shown.replies("end")[-1]
        assert end["state"] == "stopped"
        assert 3 <= end["steps"] < 1000
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(end["steps"]))


@pytest.mark.parametrize(("prompt", "warning"), [("", ""), ("word " * 200, "Prompt too long")], ids=["empty", "long"])
def test_a_prompt_of_nothing_and_one_of_200_words(browser: Browser, lab: Path, prompt: str, warning: str) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        set_number(shown, "steps", "2")
        shown.paint(prompt)
        if prompt:
            shown.expect_status("done")
            expect(shown.widget).to_contain_text(warning)
        else:
            expect(shown.widget).to_contain_text("Write a prompt first")
            shown.paint(PROMPT)
            shown.expect_status("done")


def test_a_run_goes_on_in_a_background_tab_and_is_there_on_return(browser: Browser, lab: Path) -> None:
    with opened(browser, lab, BACKGROUND + ";" + RECORD) as shown:
        shown.expect_status("idle")
        set_number(shown, "steps", "5")
        shown.paint(PROMPT)
        shown.wait_for("step")
        shown.page.evaluate("() => window.setHidden(true)")
        shown.page.wait_for_function(
            "() => window.received.some(({ content }) => content.type === 'end')", polling=200, timeout=WAIT
        )
        shown.page.evaluate("() => window.setHidden(false)")
        shown.expect_status("done")
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "5")
        shown.widget.get_by_test_id("slider").focus()
        shown.page.keyboard.press("End")
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "5")
        assert [step["index"] for step in shown.replies("step")] == list(range(5))


def test_too_little_memory_is_one_sentence_and_the_recorded_run_works(
    browser: Browser, trace: Trace, tmp_path: Path
) -> None:
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True), IN_WORKER % NO_MEMORY) as shown:
        expect(shown.widget).to_contain_text("not enough memory for the model", timeout=WAIT)
        expect(shown.widget.get_by_test_id("run")).to_have_count(0)
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "4")


def test_a_decision_of_a_recorded_run_asks_to_paint_it_first(browser: Browser, trace: Trace, tmp_path: Path) -> None:
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True)) as shown:
        expect(shown.widget.get_by_test_id("run")).to_be_visible(timeout=WAIT)
        shown.widget.get_by_test_id("decision").click()
        drawer = shown.widget.locator(".dv-decision")
        drawer.get_by_label("Replacement").fill("blue")
        drawer.get_by_test_id("compute-decision").click()
        expect(drawer).to_contain_text("press Run to paint it in this page")


@pytest.fixture
def served(lab: Path) -> Iterator[tuple[str, list[str]]]:
    """The page at an address, and the paths that were requested there."""
    paths: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            paths.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(lab.parent))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{lab.name}", paths
        server.shutdown()
        thread.join()


def test_it_paints_from_a_web_server_with_one_request(browser: Browser, served: tuple[str, list[str]]) -> None:
    url, paths = served
    context = browser.new_context(reduced_motion="reduce")
    context.add_init_script(RECORD)
    try:
        shown = Opened(context.new_page())
        shown.page.goto(url)
        shown.expect_status("idle")
        set_number(shown, "steps", "1")
        shown.paint(PROMPT)
        shown.expect_status("done")
    finally:
        context.close()
    assert paths == ["/lab.html"]
