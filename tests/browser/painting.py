"""A page that paints, opened from a file with the network off."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

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
        for _ in range(150):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{target} cannot be reached by Tab")

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
