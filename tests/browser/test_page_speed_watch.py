"""What the benchmark of the page that paints notes of a run: only what that run sends."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from benchmarks.page_speed import WATCH, paint

# A worker that sends what it is told to, and a prompt field: the page that the watcher sees.
PAGE = """
<input data-testid="prompt-input"><script>
const source = 'onmessage = ({ data }) => data.forEach((content) => postMessage({ type: "message", content }))';
const worker = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
let requests = 0;
const field = document.querySelector('input');
field.onkeydown = ({ key }) => key === 'Enter' && worker.postMessage(window.replies[requests++]);
</script>
"""
SCORES = {"type": "scores", "start": 0, "cosine": [[0.3]]}


def run(name: str, state: str = "done") -> list[dict[str, object]]:
    steps = [{"type": "step", "index": 0, "exact": True}, SCORES] if state == "done" else []
    messages = [{"type": "run", "steps": 1}, *steps, {"type": "end", "state": state, "steps": len(steps) // 2}]
    return [{**message, "run": name} for message in messages]


def test_late_messages_of_a_run_note_no_time_of_the_next(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(PAGE, encoding="utf-8")
    context = browser.new_context()
    context.add_init_script(WATCH)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        first, second, stopped = run("page-1"), run("page-2"), run("page-3", "stopped")
        late = [{"type": "frame", "run": "page-1", "index": 0, "view": "prediction"}, *first[1:]]
        # The first run goes on after the second was asked for, and ends again before the second has a step.
        replies = [[*first, *late], [*late, second[0], *late], stopped]
        page.evaluate("(replies) => { window.replies = replies; }", replies)
        assert paint(page, "first", True)["run"] == "page-1"
        page.get_by_test_id("prompt-input").press("Enter")
        page.wait_for_function("() => window.times.run === 'page-2'")
        # Two frames later all that the late messages could note would be there.
        page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
        times = page.evaluate("() => new Promise((resolve) => setTimeout(() => resolve(window.times)))")
        assert (times["first"], times["end"], times["complete"]) == (0, 0, 0)
        with pytest.raises(RuntimeError, match="ended as stopped after 0 of 1 steps"):
            paint(page, "third", True)
    finally:
        context.close()
