"""A real JupyterLab, and pages of a real Chromium on it, for the tests. Nothing leaves the machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Browser, ConsoleMessage, Error, Locator, Page, Request

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 90
# What JupyterLab itself writes as an error on every page.
NOT_OURS = ("favicon", "ResizeObserver loop")


@dataclass
class Lab:
    """A running server. ``folder`` is what it shows."""

    address: str
    token: str
    folder: Path
    settings: Path

    def add(self, name: str, *cells: str) -> str:
        """Write a notebook with these code cells and give its name."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, self.folder / name)
        return name

    def theme(self, name: str) -> None:
        """The theme of the pages that are opened from now on: "JupyterLab Light" or "JupyterLab Dark"."""
        self._set("apputils-extension/themes", {"theme": name})

    def _set(self, plugin: str, values: dict[str, Any]) -> None:
        path = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a free port of this machine, with settings and state of its own in ``folder``."""
    work, state = folder / "work", folder / "state"
    work.mkdir(parents=True)
    token = secrets.token_hex(16)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "IPYTHONDIR": str(state / "ipython"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--ServerApp.port=0",
        f"--ServerApp.root_dir={work}",
        f"--IdentityProvider.token={token}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options]
    server = subprocess.Popen(
        command, env=environment, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address = _address(server)
        lab = Lab(address, token, work, state / "settings")
        lab._set("apputils-extension/notification", {"fetchNews": "false"})
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _address(server: subprocess.Popen[str]) -> str:
    """Read the log until the server says where it is; go on reading, so that it never blocks on a full pipe."""
    assert server.stdout is not None
    log: list[str] = []
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert server.stdout is not None
        for line in server.stdout:
            log.append(line)
            if not found and "http://" in line and "/lab?token=" in line:
                found.append("http://" + line.split("http://")[1].split("/lab?token=")[0])
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    ready.wait(START_SECONDS)
    assert found, "JupyterLab did not start:\n" + "".join(log)
    return found[0]


@dataclass
class Notebook:
    """A notebook open in a page."""

    page: Page
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def widget(self) -> Locator:
        """The first DiffVis on the page."""
        return self.page.locator(".dv").first

    def run_all(self) -> None:
        self.command("notebook:run-all-cells", wait=False)

    def run_cell(self, index: int) -> None:
        """Run one code cell and wait until it has ended."""
        self.page.evaluate(
            """async (index) => {
                const { content, sessionContext } = window.jupyterapp.shell.currentWidget;
                content.activeCellIndex = index;
                content.deselectAll();
                await window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            index,
        )

    def output(self, index: int) -> Locator:
        """The output of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputWrapper")

    def command(self, name: str, wait: bool = True) -> None:
        call = f"window.jupyterapp.commands.execute({json.dumps(name)})"
        self.page.evaluate(f"async () => {{ await {call}; }}" if wait else f"() => {{ {call}; }}")

    def ready(self) -> None:
        """Wait until the notebook is shown and its kernel is there."""
        self.page.wait_for_function(
            """() => {
                const shown = window.jupyterapp?.shell?.currentWidget;
                return shown?.content?.model?.cells?.length > 0 &&
                    shown.sessionContext?.session?.kernel?.status === 'idle' &&
                    shown.sessionContext.session.kernel.connectionStatus === 'connected';
            }""",
            timeout=90_000,
        )

    def reload(self) -> None:
        self.page.reload()
        self.ready()


@contextlib.contextmanager
def open_notebook(browser: Browser, lab: Lab, name: str, width: int = 1400, height: int = 1100) -> Iterator[Notebook]:
    """A fresh page on a notebook. An error in its console, or a request to anywhere else, fails the test at the end."""
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page = context.new_page()
    notebook = Notebook(page)

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in NOT_OURS):
            notebook.errors.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((lab.address, lab.address.replace("http", "ws", 1), "data:", "blob:")):
            notebook.foreign.append(request.url)

    page.on("console", said)
    page.on("pageerror", lambda error: notebook.errors.append(str(error)))
    page.on("request", asked)
    workspace = secrets.token_hex(4)
    try:
        page.goto(f"{lab.address}/lab/workspaces/{workspace}/tree/{name}?token={lab.token}")
        notebook.ready()
        notebook.command("application:toggle-left-area", wait=True)
        yield notebook
        assert not notebook.errors, notebook.errors
        assert not notebook.foreign, notebook.foreign
    finally:
        with contextlib.suppress(Error):
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        context.close()


def copy_notebook(lab: Lab, source: Path, name: str) -> str:
    shutil.copyfile(source, lab.folder / name)
    return name
