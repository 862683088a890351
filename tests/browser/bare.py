"""The built widget in a bare page: a made-up host of a few lines, runs made by hand, no notebook and no network."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Locator, Page

from diffvis_widget import front_end
from diffvis_widget.traces import Layer, Step, Word
from diffvis_widget.wire import images as image_codec
from diffvis_widget.wire.messages import (
    VIEWS,
    RunSettings,
    ScoresPayload,
    State,
    View,
    end_message,
    run_message,
    step_message,
)
from diffvis_widget.wire.packed_run import Message, pack

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>bare</title><style>body{margin:24px}</style><style>%(style)s</style>
</head><body data-theme="%(theme)s"><main style="width:%(width)dpx"></main></body></html>"""

# What anywidget gives a widget, and no more: get, set, save_changes, send, on, off.
HOST = """async ([source, traits, snapshot, alive, more]) => {
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const listeners = [];
    const emit = (name, ...args) => {
        for (const [other, call] of [...listeners]) if (other === name) call(...args);
    };
    const model = {
        get: (name) => traits[name],
        set(name, value) { traits[name] = value; emit(`change:${name}`); },
        save_changes() {},
        send(content) {
            if (!window.alive) throw new Error('no kernel');
            window.sent.push(content);
            const answer = window.answers[content.type];
            if (answer) setTimeout(() => window.deliver({ ...content, seq: 70, ...answer[0] }, answer[1]));
        },
        on: (name, call) => listeners.push([name, call]),
        off: (name, call) => listeners.splice(listeners.findIndex(([n, c]) => n === name && c === call), 1),
    };
    if (snapshot) traits._snapshot = new DataView(bytes(snapshot).buffer);
    const answers = { more: [{ style: more[1] }, [more[0]]] };
    Object.assign(window, { alive, model, traits, listeners, sent: [], answers });
    window.deliver = (content, buffers) =>
        emit('msg:custom', content, buffers.map((b) => new DataView(bytes(b).buffer)));
    const url = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
    const widget = (await import(url)).default();
    window.show = () => {
        const el = document.createElement('div');
        document.querySelector('main').append(el);
        const stop = widget.render({ model, el });
        return () => { stop(); el.remove(); };
    };
    window.close = window.show();
}"""


@dataclass
class Bare:
    """A page with one widget on it."""

    page: Page
    errors: list[str]
    requests: list[str]

    @property
    def widget(self) -> Locator:
        return self.page.locator(".dv").first

    @property
    def slider(self) -> Locator:
        return self.widget.get_by_test_id("slider")

    def deliver(self, messages: Sequence[Message]) -> None:
        """Send messages as a kernel does, one after the other."""
        sent = [(m.content, [base64.b64encode(buffer).decode() for buffer in m.buffers]) for m in messages]
        self.page.evaluate("(all) => { for (const [content, buffers] of all) window.deliver(content, buffers); }", sent)

    def answer(self, message: Message) -> None:
        """From now on answer questions of this message's type with it."""
        payload = [message.content, [base64.b64encode(buffer).decode() for buffer in message.buffers]]
        self.page.evaluate("([type, told]) => { window.answers[type] = told; }", [message.content["type"], payload])

    def sent(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type that the page sent."""
        return self.page.evaluate("(kind) => window.sent.filter((message) => message.type === kind)", kind)

    def set(self, **traits: Any) -> None:
        """Change traits as a kernel does."""
        self.page.evaluate("(t) => { for (const [n, v] of Object.entries(t)) window.model.set(n, v); }", traits)

    def frames(self, count: int = 2) -> None:
        """Wait until the page has been painted so many times."""
        self.page.evaluate(
            "(n) => new Promise((done) => { const f = () => (n-- > 0 ? requestAnimationFrame(f) : done()); f(); })",
            count,
        )


@contextlib.contextmanager
def open_bare(
    browser: Browser,
    messages: Sequence[Message] = (),
    width: int = 720,
    theme: str = "light",
    alive: bool = True,
    motion: bool = False,
    touch: bool = False,
    **traits: Any,
) -> Iterator[Bare]:
    """The widget with a run in its snapshot; any error in the console or request fails the test at the end."""
    viewport = {"width": width + 48, "height": 900}
    context = browser.new_context(
        viewport=viewport,  # pyright: ignore[reportArgumentType]
        reduced_motion="no-preference" if motion else "reduce",
        has_touch=touch,
        is_mobile=touch,
    )
    page = context.new_page()
    bare = Bare(page, [], [])
    page.on(
        "console", lambda message: bare.errors.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: bare.errors.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("blob:", "data:")) else bare.requests.append(request.url),
    )
    begun = messages[0].content if messages else {"prompt": "a red circle", "steps": 4}
    shown = {
        "prompt": begun["prompt"], "seed": 7, "steps": begun["steps"], "guidance_scale": 7.5, "concepts": [],
        "step": 0, "selected": [], "status": "done" if messages else "idle", "progress": 1, "error": "", "_notice": "",
        "_can_run": True,
    }  # fmt: skip
    snapshot = base64.b64encode(pack(messages)).decode() if messages else None
    try:
        page.set_content(PAGE % {"style": front_end.style(), "theme": theme, "width": width})
        script, style = front_end.more()
        more = [base64.b64encode(script).decode(), style]
        page.evaluate(HOST, [front_end.script(), {**shown, **traits}, snapshot, alive, more])
        bare.frames()
        yield bare
        assert not bare.errors, bare.errors
        assert not bare.requests, bare.requests
    finally:
        context.close()


def a_run(
    prompt: str = "a red circle",
    steps: int = 6,
    size: int = 64,
    grid: int = 8,
    words: Sequence[Word] | None = None,
    concepts: Sequence[str] = ("circle", "red"),
    state: State = "done",
    finished: int | None = None,
    error: str | None = None,
    nan: bool = False,
    run: str = "r1",
    ratio: float = 1,
) -> list[Message]:
    """A whole run in the protocol's messages. A disc grows out of noise; each word looks at a spot of its own."""
    if words is None:
        words = [Word(text, (index,), "word") for index, text in enumerate(prompt.split())]
    finished = steps if finished is None else finished
    settings = RunSettings(prompt, None, 7, steps, 7.5, "uniform", 60.0, "Scheduler", "Pipeline")
    layers = [Layer("up_blocks.0.attn2", "cross", 2, (grid, grid), True)]
    words = [replace(word, token_texts=(word.text,)) for word in words]
    image = (size, round(size * ratio))
    messages = [run_message(run, settings, words, layers, grid=(grid, grid), image=image, views=VIEWS, meter="a meter")]
    for index in range(finished):
        part = (index + 1) / steps
        guidance = np.full((grid, grid), np.nan if nan else part, dtype=np.float32)
        guidance[0, 0] = 0
        images: dict[View, bytes] = {
            "prediction": _disc(size, part, ratio),
            "latents": _disc(min(size, 64), part / 3, ratio),
            "guidance": image_codec.grey(np.nan_to_num(guidance), 0, 1),
        }
        maps = spots(len(words), grid, part)
        maps[[word.kind == "truncated" for word in words]] = np.nan
        if nan:
            maps[:] = np.nan
        step = Step(index, float("nan") if nan else 999.0 * (1 - part), 1.0)
        messages.append(step_message(run, step, maps, images, (0, 1), True, 0.1 * index))
    if concepts and finished:
        rise = np.linspace(0.1, 0.3, finished, dtype=np.float32)[:, None] * np.ones(len(concepts), dtype=np.float32)
        cosine = np.full_like(rise, np.nan) if nan else rise
        null = np.tile(np.array([0.1, 0.2], dtype=np.float32), (finished, 1))
        share = np.full_like(cosine, 1 / len(concepts)) if len(concepts) > 1 else None
        emergence = np.full(len(concepts), finished // 2, dtype=np.float32)
        messages.append(ScoresPayload(list(concepts), cosine, null, share, emergence, "a meter").message(run, 0))
    messages.append(end_message(run, state, finished, 1.0, error))
    return [message.stamped(seq) for seq, message in enumerate(messages)]


def _disc(size: int, part: float, ratio: float) -> bytes:
    y, x = np.mgrid[0:size, 0 : round(size * ratio)] / size - 0.5
    x -= 0.5 * (ratio - 1)
    inside = np.clip((0.1 + 0.25 * part - np.hypot(x, y)) * 40, 0, 1)[..., None]
    noise = np.random.default_rng(7).normal(0, 60 * (1 - part), (*x.shape, 3))
    return image_codec.webp(
        np.clip(inside * (220, 60, 40) + (1 - inside) * (240, 235, 225) + noise, 0, 255).astype(np.uint8), max(x.shape)
    )


def spots(words: int, grid: int, part: float) -> np.ndarray:
    y, x = np.mgrid[0:grid, 0:grid] / grid
    angle = np.arange(words)[:, None, None] * 2.4
    far = (x - 0.5 - 0.3 * np.cos(angle)) ** 2 + (y - 0.5 - 0.3 * np.sin(angle)) ** 2
    return (0.02 + 0.2 * part * np.exp(-far * 30)).astype(np.float32)
