"""The lab without Python by keyboard only: its five tasks, and a focus that can be seen at every stop of Tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import diffvis_widget as dv
from tests.browser.painting import WAIT, Opened, opened
from tests.browser.test_lab import NIGHT, PROMPT, STEPS, TASKS, check

SEEDS = range(1, 50)
# Whether the scores of all steps of a run are there, for all concepts of the page.
SCORED = """
([run, steps, concepts]) => {
    const rows = new Set();
    for (const { content } of window.received)
        if (content.type === 'scores' && content.run === run && content.concepts.length === concepts)
            content.cosine.forEach((_, row) => rows.add(content.start + row));
    return rows.size === steps;
}
"""


class Student:
    """Someone who has a keyboard and no mouse.

    Args:
        shown: The page.
    """

    def __init__(self, shown: Opened) -> None:
        self.shown = shown
        self.keyboard = shown.page.keyboard

    def go_to(self, target: str) -> None:
        """Press Tab until an element has the focus, and look for it."""
        self.shown.press_until(target)
        self.shown.expect_visible_focus()

    def go_to_button(self, name: str) -> None:
        """Press Tab until the button of this name has the focus."""
        for _ in range(400):
            self.keyboard.press("Tab")
            if self.shown.page.evaluate("document.activeElement.innerText.trim()") == name:
                return self.shown.expect_visible_focus()
        raise AssertionError(f"the button {name} cannot be reached by Tab")

    def type_into(self, target: str, text: str) -> None:
        """Replace the text of a field, and press Enter."""
        self.go_to(target)
        self.keyboard.press("Control+a")
        self.keyboard.type(text)
        self.keyboard.press("Enter")

    def ended(self) -> int:
        return int(self.shown.page.evaluate("window.received.filter(({ content }) => content.type === 'end').length"))

    def run(self, target: str, text: str) -> None:
        """Replace the text of a field, press Enter, and wait for the run that this starts."""
        before = self.ended()
        self.type_into(target, text)
        self.wait(before)

    def wait(self, before: int) -> None:
        """Wait until another run has ended."""
        self.shown.page.wait_for_function(
            "(before) => window.received.filter(({ content }) => content.type === 'end').length > before",
            arg=before,
            timeout=WAIT,
        )
        self.shown.expect_status("done")

    def expect_met(self, number: int) -> None:
        expect(check(self.shown, number)).to_contain_text("Met", timeout=WAIT)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dv.playground(tmp_path_factory.mktemp("pages") / "lab.html", prompt=PROMPT, notes=TASKS)


@pytest.fixture
def student(browser: Browser, page: Path) -> Iterator[Student]:
    with opened(browser, page) as shown:
        student = Student(shown)
        # The first run begins by itself; the lab's steps are fewer here, so that the test is short.
        expect(shown.widget.get_by_test_id("stop")).to_be_visible(timeout=WAIT)
        shown.press_until("stop")
        student.keyboard.press("Enter")
        shown.expect_status("stopped")
        student.run('[aria-label="steps"]', str(STEPS))
        yield student


def test_all_five_tasks(student: Student) -> None:
    shown, keyboard = student.shown, student.keyboard
    expect(check(shown, 1)).to_contain_text("Not yet", timeout=WAIT)

    student.run("prompt-input", "a red circle below a blue square")
    student.expect_met(1)

    for concept in ("circle", "square"):
        student.type_into("add-concept", concept)
    student.run("prompt-input", "a red circle")
    student.expect_met(2)

    for seed in (1, 2):
        student.run('[aria-label="seed"]', str(seed))
    student.expect_met(3)
    student.go_to("compare")
    keyboard.press("Enter")
    expect(shown.widget.locator(".dv-stage .dv-pair canvas").first).to_be_visible(timeout=WAIT)
    keyboard.press("Enter")  # and away again

    student.type_into('[aria-label="seed"]', "0")
    student.run("prompt-input", PROMPT)
    student.go_to('[data-testid^="chip-"]')
    for _ in range(2):
        keyboard.press("ArrowRight")
    expect(shown.widget.get_by_test_id("chip-3")).to_be_focused()
    shown.expect_visible_focus()
    keyboard.press("Enter")
    student.go_to("adjust-word")
    keyboard.press("Enter")
    expect(shown.widget.get_by_test_id("word-popover")).to_be_visible()
    before = student.ended()
    student.go_to_button("Leave out")
    keyboard.press("Enter")
    student.wait(before)
    student.expect_met(4)
    before = student.ended()
    student.go_to_button("Reset")
    keyboard.press("Enter")
    student.wait(before)
    keyboard.press("Escape")
    expect(shown.widget.get_by_test_id("word-popover")).to_have_count(0)

    for concept in ("night", "moon"):
        student.type_into("add-concept", concept)
    student.run("prompt-input", NIGHT)
    for seed in SEEDS:
        student.run('[aria-label="seed"]', str(seed))
        run = shown.replies("run")[-1]["run"]
        shown.page.wait_for_function(SCORED, arg=[run, STEPS, 4], timeout=WAIT)
        if (check(shown, 5).text_content() or "").startswith("Met"):
            break
    student.expect_met(5)
    expect(shown.widget.get_by_test_id("tasks-met")).to_have_text("5 of 5 tasks met")


def test_the_focus_can_be_seen_at_every_stop(student: Student) -> None:
    page = student.shown.page
    page.evaluate("document.activeElement.blur()")
    stops: list[str] = []
    for _ in range(120):
        student.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const element = document.activeElement;
                element.dataset.visited = Number(element.dataset.visited ?? 0) + 1;
                return element.dataset.visited > 1 || element === document.body ? '' : element.outerHTML.slice(0, 100);
            }"""
        )
        if not stop:
            break
        stops.append(stop)
        student.shown.expect_visible_focus()
    else:
        raise AssertionError("the Tab key never comes round")
    assert len(stops) > 30
