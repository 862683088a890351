"""Finds the Firefox that tests open as a second browser, and drives it by its own WebDriver BiDi.

`python -m tests.firefox` installs Debian's package where there is none and that is possible; the tests do without.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

NAMES = ["firefox-esr", "firefox"]
MAC_APP = Path("/Applications/Firefox.app/Contents/MacOS/firefox")
HELP = "install Firefox, or set FIREFOX to the path of one"
# No first-run pages, and nothing that Firefox asks servers for by itself.
PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.region.network.url": "",
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}
LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


@functools.cache
def find() -> Path | None:
    """The Firefox to open, None where there is none."""
    named = os.environ.get("FIREFOX")
    candidates = [named, *map(shutil.which, NAMES), str(MAC_APP)]
    return next((Path(path) for path in candidates if path and Path(path).is_file() and starts(Path(path))), None)


def starts(path: Path) -> bool:
    """Whether it tells its version: a snap's placeholder does not."""
    try:
        version = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return version.returncode == 0 and "Firefox" in version.stdout


class BidiError(Exception):
    """Firefox refused a command."""


@dataclass
class Firefox:
    """One page in a headless Firefox."""

    socket: websocket.WebSocket
    context: str = ""
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _commands: int = 0

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command, and keep the events that come before its answer."""
        self._commands += 1
        self.socket.send(json.dumps({"id": self._commands, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("type") == "event":
                self._keep(answer["method"], answer["params"])
            elif answer.get("id") == self._commands:
                if answer["type"] == "error":
                    raise BidiError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def _keep(self, name: str, event: Any) -> None:
        if name == "log.entryAdded" and event["level"] in ("error", "warn"):
            self.messages.append(str(event["text"]))
        elif name == "network.beforeRequestSent":
            self.requests.append(str(event["request"]["url"]))

    def run_before_pages(self, script: str) -> None:
        """Run a script in every page before its own scripts."""
        self.send("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")

    def open(self, address: str, width: int = 900, height: int = 1000) -> None:
        """Open an address in a viewport of this size."""
        self.send("browsingContext.setViewport", context=self.context, viewport={"width": width, "height": height})
        self.send("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, or of the promise that it gives, as JSON holds it."""
        result = self.send(
            "script.evaluate",
            expression=f"Promise.resolve({expression}).then(JSON.stringify)",
            target={"context": self.context},
            awaitPromise=True,
        )
        if result["type"] != "success":
            raise BidiError(f"{expression}: {result['exceptionDetails']['text']}")
        return json.loads(result["result"].get("value", "null"))

    def wait_for(self, expression: str, seconds: float = 90) -> Any:
        """The first value of an expression that is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body.innerText.slice(0, 500)")
                raise TimeoutError(f"{expression} is not true after {seconds} s; the page says: {text}")
        return value

    def press(self, *keys: str) -> None:
        """Press keys one after the other, as a keyboard does."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self.send("input.performActions", context=self.context, actions=[source])

    def screenshot(self) -> bytes:
        """The viewport as PNG."""
        return base64.b64decode(self.send("browsingContext.captureScreenshot", context=self.context)["data"])


@contextlib.contextmanager
def started(path: Path) -> Iterator[Firefox]:
    """A headless Firefox with a profile of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        Path(profile, "user.js").write_text("".join(lines), encoding="utf-8")
        command = [str(path), "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"]
        environment = {**os.environ, "HOME": profile, "MOZ_HEADLESS": "1"}
        reader = None
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stderr is not None
            address = next((match[1] for line in process.stderr if (match := LISTENING.search(line))), None)
            assert address is not None, "Firefox ended before it listened"
            # What Firefox says later is read, and dropped: a full pipe would stop it.
            reader = threading.Thread(target=process.stderr.read, daemon=True)
            reader.start()
            socket = websocket.create_connection(f"{address}/session", timeout=180, suppress_origin=True)
            firefox = Firefox(socket)
            firefox.send("session.new", capabilities={})
            firefox.send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            firefox.context = firefox.send("browsingContext.create", type="tab")["context"]
            yield firefox
            socket.close()
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if reader is not None:
                reader.join(10)
            if process.stderr is not None:
                process.stderr.close()


def main() -> int:
    """Install Debian's package as root; elsewhere only say what is missing: the tests skip, and say why."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if find() is None and is_root and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "firefox-esr"]):
            subprocess.run(command, env=environment, check=False)
        find.cache_clear()
    print(f"second browser: {find() or f'none; {HELP}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
