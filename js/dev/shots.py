"""Takes screenshots of the development page, which shows a made-up run.

Start the page with `npm run dev`, then run

    python dev/shots.py http://127.0.0.1:8000/ [name ...]

It writes dev/shots/<name>.png for the named views, or for all.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
OUT = Path(__file__).parent / "shots"


def hover(page: Page) -> None:
    page.get_by_test_id("stage").locator("canvas").hover(position={"x": 150, "y": 90})


def edit(page: Page) -> None:
    page.get_by_test_id("prompt-input").fill("a red circle above a green square")


def special(page: Page) -> None:
    page.locator(".dv-special").click()
    page.locator(".dv-tokens").first.click() if page.locator(".dv-tokens").count() else None


def contours(page: Page) -> None:
    page.get_by_label("Contour lines").click()


def change(page: Page) -> None:
    page.get_by_role("button", name="Change", exact=True).click()


def layers(page: Page) -> None:
    page.get_by_test_id("layers").click()
    page.locator(".dv-tile[title^=up_blocks]").nth(5).click()


def focused(page: Page) -> None:
    layers(page)
    page.get_by_role("button", name="By focus").click()


def opened(name: str):
    return lambda page: page.get_by_test_id(name).click()


def swiped(page: Page) -> None:
    page.get_by_test_id("compare").click()
    page.get_by_role("button", name="Swipe").click()


def differing(page: Page) -> None:
    page.get_by_test_id("compare").click()
    page.get_by_role("button", name="Difference").click()


def pinned(page: Page) -> None:
    page.get_by_test_id("layers").click()
    page.locator(".dv-layers .dv-tile").nth(5).click(modifiers=["Shift"])
    page.locator(".dv-layers .dv-tile").nth(2).click(modifiers=["Shift"])


def weighed(page: Page) -> None:
    page.evaluate("kernel.write({weights: {red: 1.5, above: null, circle: 0.4}})")


def place(page: Page) -> None:
    box = page.get_by_test_id("stage").locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.4, steps=4)
    page.mouse.up()


def share(page: Page) -> None:
    page.get_by_role("button", name="Share", exact=True).click()
    page.get_by_role("button", name="Guidance").click()


def noisy(page: Page) -> None:
    page.get_by_role("button", name="Noisy").click()


def focus(page: Page) -> None:
    page.get_by_test_id("slider").focus()
    page.keyboard.press("ArrowLeft")


VIEWS = {
    "idle": ("state=idle", None),
    "empty": ("state=empty", None),
    "loading": ("state=loading", None),
    "queued": ("state=queued", None),
    "running": ("state=running&until=12", None),
    "done": ("state=done", None),
    "step": ("state=done&step=9", None),
    "word": ("state=done&step=12&selected=3", hover),
    "words": ("state=done&step=16&selected=3,7", None),
    "words3": ("state=done&step=16&selected=3,7,4", None),
    "contours": ("state=done&step=16&selected=2", contours),
    "contours2": ("state=done&step=20&selected=2,6", contours),
    "change": ("state=done&step=8", change),
    "place": ("state=done&step=14", place),
    "layers": ("state=done&step=20&selected=3", layers),
    "focused": ("state=done&step=20&selected=3", focused),
    "pinned": ("state=done&step=20&selected=3", pinned),
    "weighed": ("state=edited&step=20", weighed),
    "compare": ("state=edited&step=20", opened("compare")),
    "compared": ("state=edited&step=16&selected=3", opened("compare")),
    "swiped": ("state=edited&step=20", swiped),
    "differing": ("state=edited&step=20", differing),
    "runs": ("state=edited", opened("runs")),
    "tables": ("state=done&step=12", opened("tables")),
    "edit": ("state=done", edit),
    "failed": ("state=failed&until=5", None),
    "stopped": ("state=stopped&until=9", None),
    "gone": ("state=gone", None),
    "long": ("state=done&fixture=long", None),
    "short": ("state=done&fixture=short", None),
    "unmapped": ("state=done&fixture=unmapped", None),
    "encoders": ("state=done&fixture=encoders&selected=3,10", special),
    "special": ("state=done&fixture=long", special),
    "share": ("state=done&step=14", share),
    "noisy": ("state=done&step=6", noisy),
    "focus": ("state=done", focus),
}


def main() -> None:
    base, *names = sys.argv[1:]
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for name in names or [*VIEWS, *(f"{view}-{w}" for view in ("word", "running") for w in (420, 1080, 1400))]:
            view, _, width = name.partition("-")
            query, act = VIEWS[view]
            for theme in ("light", "dark"):
                wide = int(width or 720)
                page = browser.new_page(viewport={"width": wide + 48, "height": 760}, device_scale_factor=1.5)
                page.on("pageerror", lambda error: print("error:", error))
                page.on("console", lambda message: print("console:", message.text) if message.type != "log" else None)
                page.goto(f"{base}?{query}&theme={theme}&width={wide}")
                page.wait_for_selector("body[data-ready]")
                if act:
                    act(page)
                page.wait_for_timeout(350)
                page.screenshot(path=OUT / f"{name}-{theme}.png", full_page=True)
                page.close()
        browser.close()


main()
