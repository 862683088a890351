"""The drawer of docs/pages/add-a-drawer.md, from outside the package, in the built widget and in an offline page."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, Locator, expect

import diffvis_widget as dv
from tests.browser.bare import a_run, open_bare
from tests.traces.build import make_trace

PAGE = Path(__file__).parent.parent.parent / "docs" / "pages" / "add-a-drawer.md"


def script() -> str:
    """The script of the page, word for word."""
    match = re.search(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    return match[1]


def follows_the_slider(widget: Locator) -> None:
    """Opens the drawer, moves the slider, and expects the drawer's text to change with it."""
    widget.get_by_test_id("timestep").click()
    text = widget.locator(".timestep")
    expect(text).to_have_text(re.compile(r"^t = \d"))
    last = text.inner_text()
    widget.get_by_test_id("slider").press("Home")
    expect(text).not_to_have_text(last)
    expect(text).to_have_text(re.compile(r"^t = \d"))
    widget.get_by_test_id("slider").press("End")
    expect(text).to_have_text(last)


def test_a_drawer_from_outside_in_the_widget(browser: Browser) -> None:
    with open_bare(browser, a_run()) as bare:
        expect(bare.widget.get_by_test_id("timestep")).to_have_count(0)
        bare.page.evaluate(script())
        follows_the_slider(bare.widget)


def test_a_drawer_from_outside_in_an_offline_page(browser: Browser, tmp_path: Path) -> None:
    path = dv.to_html(make_trace(steps=4), tmp_path / "run.html")
    context = browser.new_context(offline=True)
    try:
        page = context.new_page()
        page.add_init_script(script())  # the page's own policy lets no other script in
        page.goto(path.as_uri())
        follows_the_slider(page.locator(".dv"))
    finally:
        context.close()
