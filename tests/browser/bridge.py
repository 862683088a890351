"""A real widget behind the bare page: what the page sends goes to Python, and what Python says goes back with it."""

from __future__ import annotations

import base64
import contextlib
import queue
from collections.abc import Iterator, Sequence
from typing import Any

from playwright.sync_api import Browser

from diffvis_widget.widget import protocol
from diffvis_widget.widget.widget import DiffVis
from tests.browser.bare import Bare, open_bare

# Everything that the page sends or sets is handed over in turn, and what comes back is delivered.
HAND_OVER = """() => {
    const { model } = window;
    const set = model.set;
    let turn = Promise.resolve();
    const hand = (kind, content) => {
        turn = turn.then(() => window.toKernel(kind, content)).then((messages) => {
            for (const [told, buffers] of messages) window.deliver(told, buffers);
        });
    };
    model.send = (content) => { window.sent.push(content); hand('message', content); };
    model.set = (name, value) => { set(name, value); hand('trait', { [name]: value }); };
}"""


@contextlib.contextmanager
def open_bridged(browser: Browser, widget: DiffVis, monkeypatch: Any, **options: Any) -> Iterator[Bare]:
    """The page of a widget whose run is over. What other threads say goes to it with the next answer."""
    said: queue.SimpleQueue[tuple[dict[str, Any], list[str]]] = queue.SimpleQueue()
    kernel: Any = widget

    def send(content: dict[str, Any], buffers: Sequence[bytes] = ()) -> None:
        said.put((content, [base64.b64encode(buffer).decode() for buffer in buffers]))

    def take(kind: str, content: dict[str, Any]) -> list[Any]:
        if kind == "trait":
            kernel.set_state(content)
        else:
            kernel._handle_custom_msg(content, [])
        return [said.get_nowait() for _ in range(said.qsize())]

    # a widget that is closed later must find its own method again
    monkeypatch.setattr(type(widget), "send", lambda self, *arguments, **named: send(*arguments, **named))
    with open_bare(browser, protocol.unpack(kernel._snapshot), **options) as bare:
        bare.page.expose_function("toKernel", take)
        bare.page.evaluate(HAND_OVER)
        yield bare
