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
START_SECONDS = 180
PATIENCE = 300_000  # milliseconds; a cold start on a busy machine
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
        self._set("@jupyterlab/apputils-extension/themes", {"theme": name})

    def save_widget_state(self) -> None:
        """From now on notebooks are saved with the state of their widgets, which is off by default."""
        self._set("@jupyter-widgets/jupyterlab-manager/plugin", {"saveState": True})

    def _set(self, plugin: str, values: dict[str, Any]) -> None:
        path = self.settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))


def jupyter_environment(state: Path) -> dict[str, str]:
    """This process's environment, with Jupyter's settings and state in a folder of their own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    return environment | {
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "IPYTHONDIR": str(state / "ipython"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a free port of this machine, with settings and state of its own in ``folder``."""
    work, state = folder / "work", folder / "state"
    work.mkdir(parents=True)
    token = secrets.token_hex(16)
    environment = jupyter_environment(state) | {
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--JupyterNotebookApp.expose_app_in_browser=True",
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
    reader = _Log(server)
    try:
        address = reader.address()
        lab = Lab(address, token, work, state / "settings")
        lab._set("@jupyterlab/apputils-extension/notification", {"fetchNews": "false"})
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        reader.join()


class _Log:
    """Reads what a server writes, to learn where it is, and on, so that it never blocks on a full pipe."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server
        self._lines: list[str] = []
        self._addresses: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def address(self) -> str:
        self._ready.wait(START_SECONDS)
        assert self._addresses, "JupyterLab did not start:\n" + "".join(self._lines)
        return self._addresses[0]

    def join(self) -> None:
        """Read to the end, after the server has ended."""
        self._thread.join()
        assert self._server.stdout is not None
        self._server.stdout.close()

    def _read(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            self._lines.append(line)
            if not self._addresses and "http://" in line and "/lab?token=" in line:
                self._addresses.append("http://" + line.split("http://")[1].split("/lab?token=")[0])
                self._ready.set()
        self._ready.set()


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
            timeout=PATIENCE,
        )

    def reload(self) -> None:
        self.page.reload()
        self.ready()

    def idle(self) -> None:
        """Wait until no cell runs or waits."""
        self.page.wait_for_function(
            """() => {
                const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')];
                return prompts.every((prompt) => !prompt.textContent.includes('*')) &&
                    window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle';
            }""",
            timeout=PATIENCE,
        )

    def run_python(self, code: str) -> str:
        """Run code in the notebook's kernel, outside any cell, and give what it printed."""
        return self.page.evaluate(
            """async (code) => {
                const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
                const future = kernel.requestExecute({ code, store_history: false });
                let said = '';
                future.onIOPub = ({ header, content }) => {
                    if (header.msg_type === 'stream') said += content.text;
                    if (header.msg_type === 'error') said += content.ename + ': ' + content.evalue;
                };
                await future.done;
                return said.trim();
            }""",
            code,
        )

    def set_source(self, index: int, source: str) -> None:
        """Write other code into a cell."""
        self.page.evaluate(
            """([index, source]) => {
                const { content } = window.jupyterapp.shell.currentWidget;
                content.widgets[index].model.sharedModel.setSource(source);
            }""",
            [index, source],
        )

    def kill_kernel(self) -> None:
        """End the kernel's process, as a lack of memory does."""
        self.page.evaluate(
            """() => {
                const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
                kernel.requestExecute({ code: 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)' });
            }"""
        )

    def run_in_subshell(self, code: str) -> None:
        """Run code in a second shell of the kernel, which does not wait for the cell that is running."""
        self.page.evaluate(
            """async (code) => {
                const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
                const { content } = await kernel.requestCreateSubshell({}).done;
                const second = kernel.clone({ handleComms: false });
                second.subshellId = content.subshell_id;
                await second.requestExecute({ code, store_history: false }).done;
                second.dispose();
            }""",
            code,
        )

    def watch(self) -> None:
        """From now on note every state that the first widget shows; `seen` gives them."""
        self.page.evaluate(
            """() => {
                window.seenStates = [];
                const look = () => {
                    const status = document.querySelector('.dv [data-testid=status]');
                    const slider = document.querySelector('.dv [data-testid=slider]');
                    if (status) {
                        const now = [status.dataset.status, document.querySelector('.dv').textContent,
                            Number(slider?.getAttribute('aria-valuemax'))];
                        const last = window.seenStates.at(-1);
                        if (!last || last[0] !== now[0] || last[2] !== now[2]) window.seenStates.push(now);
                    }
                    requestAnimationFrame(look);
                };
                look();
            }"""
        )

    def seen(self) -> list[tuple[str, str, int]]:
        """(status, text of the widget, steps on the slider) each time one of the outer two changed."""
        return [tuple(state) for state in self.page.evaluate("() => window.seenStates")]

    def set_theme(self, name: str) -> None:
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            name,
        )

    def set_widget_width(self, width: int | None) -> None:
        """Give the first widget a column of its own width; None gives it the cell's again."""
        self.page.evaluate(
            """(width) => {
                document.querySelector('.dv').parentElement.style.width = width === null ? '' : width + 'px';
            }""",
            width,
        )


@contextlib.contextmanager
def open_notebook(browser: Browser, lab: Lab, name: str, width: int = 1720, height: int = 1300) -> Iterator[Notebook]:
    """A fresh page on a notebook. An error in its console, or a request to anywhere else, fails the test at the end."""
    context = browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce")
    context.set_default_timeout(60_000)
    context.set_default_navigation_timeout(PATIENCE)
    page = context.new_page()
    notebook = Notebook(page)

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in NOT_OURS):
            notebook.errors.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith((lab.address, lab.address.replace("http", "ws", 1), "data:", "blob:")):
            notebook.foreign.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: notebook.errors.append(str(error)))
    page.on("request", on_request)
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
