"""Hosts that serve a notebook as an application: a server on a free port, and a page on it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.browser.lab import PATIENCE, START_SECONDS


@contextlib.contextmanager
def serve_app(arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run `python -m ARGUMENTS` in a folder, "{port}" being a free port of this machine, and give its address.

    The server counts as ready once it has written its port; all that it writes is read, so that it never blocks.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *(argument.format(port=port) for argument in arguments)]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            lines.append(line)
            if f":{port}" in line:
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(START_SECONDS), "".join(lines)
        assert server.poll() is None, "".join(lines)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        reader.join()
        assert server.stdout is not None
        server.stdout.close()


@contextlib.contextmanager
def open_app(browser: Browser, address: str) -> Iterator[Page]:
    """A page on an application, without any other network. An error in the page fails the test at the end."""
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1100, "height": 1300})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    try:
        page.goto(address)
        yield page
        assert not errors, errors
    finally:
        context.close()
