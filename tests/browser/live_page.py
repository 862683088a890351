"""A page of its own for a real widget in this process: its kernel side works as ever, only the notebook is left out.

The page fetches what the widget said, and hands over what is asked of it, by functions that Playwright puts into it;
they run whenever the test waits for the page.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from diffvis_widget import front_end
from diffvis_widget.widget.widget import DiffVis
from tests.browser.bare import PAGE

PART = 1_000_000  # bytes
HERE = "http://localhost/dv"  # nobody serves it; only such an address has a clipboard

HOST = """async ([source, id, given]) => {
    const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    const load = async (buffer) => {
        if (typeof buffer === 'string') return bytes(buffer);
        const parts = [];
        for (let part = 0; part < buffer.parts; part++) parts.push(bytes(await window.dvPart(buffer.file, part)));
        return new DataView(await new Blob(parts).arrayBuffer());
    };
    const read = (value) => (value?.base64 === undefined ? value : bytes(value.base64));
    const traits = Object.fromEntries(Object.entries(given).map(([name, value]) => [name, read(value)]));
    let listeners = [], changed = {}, open = true;
    const emit = (name, ...args) => {
        for (const [other, call] of [...listeners]) if (other === name) call(...args);
    };
    const model = {
        get: (name) => traits[name],
        set(name, value) { traits[name] = changed[name] = value; emit(`change:${name}`); },
        save_changes() { void window.dvSave(id, changed); changed = {}; },
        send(content) { void window.dvTell(id, content); },
        on: (name, call) => listeners.push([name, call]),
        off: (name, call) => { listeners = listeners.filter(([n, c]) => n !== name || c !== call); },
    };
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const widget = (await import(url)).default();
    URL.revokeObjectURL(url);
    const el = document.createElement('div');
    el.id = `dv-${id}`;
    document.querySelector('main').append(el);
    const stop = widget.render({ model, el });
    const fetch = async () => {
        if (!open) return;
        for (const [kind, content, buffers] of await window.dvFetch(id)) {
            if (kind === 'message') emit('msg:custom', content, await Promise.all(buffers.map(load)));
            else for (const [name, value] of Object.entries(content)) {
                traits[name] = read(value);
                emit(`change:${name}`);
            }
        }
        setTimeout(fetch, 15);
    };
    void fetch();
    (window.dvClose ??= {})[id] = () => { open = false; stop(); el.remove(); delete window.dvClose[id]; };
}"""


@dataclass
class LivePage:
    """A page with any number of widgets on it."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)
    _widgets: dict[str, DiffVis] = field(default_factory=dict)
    _received: dict[str, collections.deque[Any]] = field(default_factory=dict)
    _unwatch: dict[str, Callable[[], None]] = field(default_factory=dict)
    _saving: dict[str, Any] = field(default_factory=dict)

    def show(self, widget: DiffVis) -> Locator:
        """The widget as it is, live."""
        name = widget.model_id
        queue = self._received[name] = collections.deque()
        self._widgets[name] = widget

        def send(content: dict[str, Any], buffers: list[bytes]) -> None:
            queue.append(("message", content, [self._sent(buffer) for buffer in buffers]))

        widget.send = send  # pyright: ignore[reportAttributeAccessIssue]
        synced = [trait for trait in dict.fromkeys(widget.keys) if trait not in ("_esm", "_css", "layout")]

        def watch(change: Any) -> None:
            # As in ipywidgets, what the page has just set is not sent back: there it may be out of date by then.
            if change["name"] in self._saving and self._saving[change["name"]] == change["new"]:
                return
            queue.append(("traits", {change["name"]: _plain(change["new"])}, []))

        widget.observe(watch, synced)
        self._unwatch[name] = lambda: widget.unobserve(watch, synced)
        values = {trait: _plain(getattr(widget, trait)) for trait in synced if not trait.startswith("_view")}
        self.page.evaluate(HOST, [front_end.script(), name, values])
        return self.page.locator(f"#dv-{name} .dv")

    def _sent(self, buffer: bytes) -> Any:
        """A buffer as the page takes it: a large one in parts, which Playwright's functions return sooner."""
        if len(buffer) <= PART:
            return base64.b64encode(buffer).decode()
        self.files.append(bytes(buffer))
        return {"file": len(self.files) - 1, "parts": math.ceil(len(buffer) / PART)}

    def part(self, file: int, part: int) -> str:
        return base64.b64encode(self.files[file][part * PART : (part + 1) * PART]).decode()

    def leave(self, widget: DiffVis) -> None:
        """Take it off the page, as a closed output does; it can be shown again."""
        name = widget.model_id
        self.page.evaluate("(id) => window.dvClose[id]()", name)
        del self._widgets[name], self._received[name]
        self._unwatch.pop(name)()
        del widget.send

    def close(self, widget: DiffVis) -> None:
        """Take it off the page, and end it."""
        self.leave(widget)
        widget.close()

    def tell(self, name: str, content: Any) -> None:
        if widget := self._widgets.get(name):
            widget._handle_custom_msg(content, [])

    def save(self, name: str, values: dict[str, Any]) -> None:
        if widget := self._widgets.get(name):
            self._saving = values
            try:
                widget.set_state(values)
            finally:
                self._saving = {}

    def fetch(self, name: str) -> list[Any]:
        queue = self._received.get(name, collections.deque[Any]())
        return [queue.popleft() for _ in range(len(queue))]


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


@contextlib.contextmanager
def open_live(
    browser: Browser, width: int = 720, theme: str = "light", height: int = 900, ratio: float = 1
) -> Iterator[LivePage]:
    """An empty page; any error in its console, and any request, fails the test at the end."""
    context = browser.new_context(
        viewport={"width": width + 48, "height": height}, reduced_motion="reduce", device_scale_factor=ratio
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    live = LivePage(page)
    page.on(
        "console", lambda message: live.errors.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: live.errors.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("blob:", "data:", HERE)) else live.requests.append(request.url),
    )
    document = PAGE % {"style": front_end.style(), "theme": theme, "width": width}
    page.route(HERE, lambda route: route.fulfill(body=document, content_type="text/html"))
    for name, function in (
        ("dvTell", live.tell),
        ("dvSave", live.save),
        ("dvFetch", live.fetch),
        ("dvPart", live.part),
    ):
        page.expose_function(name, function)
    try:
        page.goto(HERE)
        yield live
        assert not live.errors, live.errors
        assert not live.requests, live.requests
    finally:
        context.close()
