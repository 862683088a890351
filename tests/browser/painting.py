"""A page that paints, opened from a file with the network off."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

WAIT = 120_000  # ms; machines may be busy
# Keeps the worker, and what it sends, for the comparison of numbers.
RECORD = """
(() => {
    const Original = Worker;
    window.received = [];
    window.Worker = class extends Original {
        constructor(url) {
            super(url);
            window.engine = this;
            this.addEventListener('message', ({ data }) => {
                if (data.type === 'message') window.received.push(data);
            });
        }
    };
})()
"""
READ = """
() => JSON.stringify(window.received.map(({ content, buffers }) => [
    content,
    buffers.map((buffer) => btoa(Array.from(buffer, (byte) => String.fromCharCode(byte)).join(''))),
]))
"""


@dataclass
class Opened:
    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def widget(self) -> Any:
        return self.page.locator(".dv")

    def press_until(self, target: str) -> None:
        """Press Tab until an element has the focus: a selector, or a test id."""
        selector = target if target.startswith("[") else f'[data-testid="{target}"]'
        stops: list[str] = []
        for _ in range(400):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            stops.append(self.page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
        raise AssertionError(f"{target} cannot be reached by Tab; the last stops: {stops[-9:]}")

    def expect_visible_focus(self) -> None:
        """The element with the focus must look otherwise than without it, by more than a few faint pixels."""
        box = self.page.evaluate(
            """() => {
                const element = document.activeElement;
                element.scrollIntoView({ block: 'nearest' });
                const { left, top, right, bottom } = element.getBoundingClientRect();
                const [x, y] = [Math.max(0, left - 6), Math.max(0, top - 6)];
                return {
                    x, y, width: Math.min(innerWidth, right + 6) - x, height: Math.min(innerHeight, bottom + 6) - y,
                };
            }"""
        )
        focused = self.screenshot(box)
        element = self.page.evaluate_handle(
            "() => { const element = document.activeElement; element.blur(); return element; }"
        )
        plain = self.screenshot(box)
        element.evaluate("(element) => element.focus({ focusVisible: true, preventScroll: true })")
        changed = (np.abs(focused - plain).max(axis=2) > 40).sum()
        name = element.evaluate("(element) => element.outerHTML.slice(0, 200)")
        assert changed >= 20, f"the focus shows in {changed} pixels only: {name}"

    def screenshot(self, clip: Any) -> np.ndarray:
        """A part of the page, float (h, w, 3)."""
        data = self.page.screenshot(clip=clip)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)

    def set_steps(self, steps: int) -> None:
        set_steps(self.widget, steps)

    def paint(self, prompt: str) -> None:
        field = self.widget.get_by_test_id("prompt-input")
        field.fill(prompt)
        field.press("Enter")

    def expect_status(self, status: str) -> None:
        expect(self.widget.get_by_test_id("status")).to_have_attribute("data-status", status, timeout=WAIT)

    def wait_for(self, kind: str, condition: str = "true") -> None:
        """Wait for a message of the worker; the condition is JavaScript with its `content`."""
        script = "([type, condition]) => window.received.some(({ content }) => content.type === type && (%s))"
        self.page.wait_for_function(script % condition, arg=[kind, condition], timeout=WAIT)

    def replies(self, kind: str) -> list[dict[str, Any]]:
        """The contents of all messages of a type."""
        return [content for content, _ in self.received() if content["type"] == kind]

    def received(self) -> list[tuple[dict[str, Any], list[bytes]]]:
        return [
            (content, [base64.b64decode(part) for part in buffers])
            for content, buffers in json.loads(self.page.evaluate(READ))
        ]


def set_steps(widget: Locator, steps: int) -> None:
    """Type the number of steps of the next run into its field."""
    field = widget.get_by_role("textbox", name="steps")
    field.fill(str(steps))
    field.press("Tab")


@contextlib.contextmanager
def opened(browser: Browser, path: Path, script: str = RECORD) -> Iterator[Opened]:
    """The page without a network; anything in its console, and any request but for itself, fails the test."""
    context = browser.new_context(offline=True, reduced_motion="reduce", viewport={"width": 900, "height": 1000})
    context.add_init_script(script)
    page = context.new_page()
    shown = Opened(page)
    page.on("console", lambda message: shown.messages.append(message.text))
    page.on("pageerror", lambda error: shown.messages.append(str(error)))
    page.on("request", lambda request: shown.requests.append(request.url))
    try:
        page.goto(path.as_uri())
        yield shown
        assert not shown.messages, shown.messages
        assert [url for url in shown.requests if not url.startswith(("blob:", "data:"))] == [path.as_uri()]
    finally:
        context.close()
