"""What every host must be able to do with a run that is shown in it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Frame, FrameLocator, Locator, Page, expect

PIXELS = "(canvas) => canvas.toDataURL()"


def scrub(widget: Locator, steps: int) -> None:
    """Move to the first step and back to the last; the image must follow."""
    slider = widget.get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", str(steps), timeout=60_000)
    slider.focus()
    slider.press("End")
    last = settled(widget)
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    assert settled(widget, other_than=last) != last
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuenow", str(steps))


def settled(widget: Locator, other_than: str = "") -> str:
    """What the stage shows once it shows something, and something else than it did."""
    stage = widget.get_by_test_id("stage").locator("canvas")
    stage.evaluate(
        """(canvas, other) => new Promise((done) => {
            const look = () => {
                const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
                const drawn = data.some((value, i) => i % 4 < 3 && value !== data[i % 4]);
                if (drawn && canvas.toDataURL() !== other) done(); else requestAnimationFrame(look);
            };
            look();
        })""",
        other_than,
    )
    return stage.evaluate(PIXELS)


def pick(widget: Locator, chip: int, word: str) -> None:
    widget.get_by_test_id(f"chip-{chip}").click()
    expect(widget.locator(".dv-bar-name")).to_have_text(word)


def inside(place: Page | Frame | FrameLocator | Any) -> Locator:
    """The widget in a frame of ``widget.static()``."""
    return place.frame_locator("iframe[title=diffvis_widget]").locator(".dv")
