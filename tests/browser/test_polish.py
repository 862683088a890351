"""Small things that were ugly once: each is looked at in a real Chromium."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.bare import Bare, a_run, open_bare

PROMPT = "a red circle above a square"
CONCEPTS = ["circle", "red"]
SMALL_TEXTS = """(root) => {
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const texts = [...root.querySelectorAll('*')].filter((element) => own(element) && element.checkVisibility());
    return texts.filter((element) => parseFloat(getComputedStyle(element).fontSize) < 12).map((e) => e.outerHTML);
}"""

TEXT_LINES = """(roots) => roots.flatMap((root) => {
    const lines = [];
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const { parentElement, data } = walker.currentNode;
        if (!data.trim() || !parentElement.checkVisibility({ opacityProperty: true })) continue;
        const range = document.createRange();
        range.selectNodeContents(walker.currentNode);
        const list = parentElement.closest('ul')?.getBoundingClientRect();
        for (const rect of range.getClientRects()) {
            const isSeen = !list || (list.top <= rect.top && rect.bottom <= list.bottom);
            if (rect.width > 1 && isSeen) lines.push([data, rect.toJSON()]);
        }
    }
    for (const input of root.querySelectorAll('input[type=text]')) {
        const { left, right, top, height } = input.getBoundingClientRect();
        const high = parseFloat(getComputedStyle(input).fontSize) * 1.2;
        const middle = top + height / 2;
        lines.push([input.placeholder, { left, right, top: middle - high / 2, bottom: middle + high / 2 }]);
    }
    return lines;
})"""


def running(browser: Browser, theme: str = "light", **options: Any) -> Any:
    return open_bare(browser, a_run(PROMPT)[:4], theme=theme, status="running", **options)


def box(place: Locator) -> Any:
    bounds = place.bounding_box()
    assert bounds is not None
    return bounds


def luminance(bare: Bare, place: Locator) -> float:
    """Of the middle of an element's left edge, as it is painted."""
    bounds = box(place)
    shot = bare.page.screenshot(
        clip={"x": bounds["x"] + 3, "y": bounds["y"] + bounds["height"] / 2, "width": 1, "height": 1}
    )
    return bare.page.evaluate(
        """async (bytes) => {
            const bitmap = await createImageBitmap(new Blob([Uint8Array.from(bytes)]));
            const context = new OffscreenCanvas(1, 1).getContext('2d');
            context.drawImage(bitmap, 0, 0);
            const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
            const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        }""",
        list(shot),
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_stop_button_stands_out_while_the_pointer_is_on_it(browser: Browser, theme: str) -> None:
    with running(browser, theme) as bare:
        stop = bare.widget.get_by_test_id("stop")
        ground = {"light": 1.0, "dark": 0.007}[theme]
        at_rest = luminance(bare, stop)
        stop.hover()
        bare.page.wait_for_function(
            "() => getComputedStyle(document.querySelector('[data-testid=stop]')).filter !== 'none'"
        )
        hovered = luminance(bare, stop)
        assert hovered != at_rest
        lighter, darker = max(hovered, ground), min(hovered, ground)
        assert (lighter + 0.05) / (darker + 0.05) > 1.15


def test_a_weight_leaves_its_chip_as_high_as_the_others(browser: Browser) -> None:
    with open_bare(browser, a_run(PROMPT), weights={"circle": 1.8}) as bare:
        expect(bare.widget.get_by_test_id("chip-2")).to_contain_text("×1.8")
        heights = {box(bare.widget.get_by_test_id(f"chip-{index}"))["height"] for index in range(6)}
        assert len(heights) == 1


def test_undoing_an_edit_gives_the_prompt_back(browser: Browser) -> None:
    with open_bare(browser, a_run(PROMPT)) as bare:
        field = bare.widget.get_by_test_id("prompt-input")
        bare.widget.get_by_test_id("chip-2").focus()
        bare.page.keyboard.type("square")
        expect(field).to_have_value("a red square above a square")
        bare.page.keyboard.press("Control+z")
        expect(field).to_have_value(PROMPT)
        bare.page.keyboard.press("Escape")
        field.focus()
        bare.page.keyboard.press("Control+z")
        bare.frames()
        expect(field).to_have_value(PROMPT)


def test_the_title_of_the_notes_stays_while_a_note_is_written_and_read(browser: Browser) -> None:
    messages = a_run(PROMPT)
    notes = [{"text": f"note {index}", "step": index, "words": [], "region": None} for index in range(2)]
    messages[0].content["notes"] = notes
    with open_bare(browser, messages) as bare:
        parts = bare.widget.locator(".dv-notes .dv-title :is(h3, button, [role=status])")
        expect(parts).to_have_count(6)

        def places() -> list[float]:
            return [box(part)["x"] for part in parts.all()]

        before = places()
        bare.widget.get_by_role("button", name="Start", exact=True).click()
        expect(parts.nth(2)).to_have_text("1 of 2")
        assert places() == before
        bare.widget.get_by_role("button", name="Add a note").click()
        expect(bare.widget.locator(".dv-notes textarea")).to_be_focused()
        assert places() == before


@pytest.mark.parametrize("width", [420, 720, 1400])
def test_the_cross_of_a_meter_covers_no_curve(browser: Browser, width: int) -> None:
    with open_bare(browser, a_run(PROMPT), width=width, concepts=CONCEPTS) as bare:
        meter = bare.widget.get_by_test_id("meter-red")
        meter.hover()
        curve, cross = box(meter.locator(".dv-spark")), box(meter.locator(".dv-remove svg"))
        assert curve["x"] + curve["width"] <= cross["x"]
        assert meter.evaluate("(row) => row.scrollWidth <= row.clientWidth + 8")


def test_end_follows_a_run_that_goes_on(browser: Browser) -> None:
    messages = a_run(PROMPT)
    with running(browser) as bare:
        live = bare.widget.locator(".dv-live")
        bare.slider.press("Home")
        expect(live).to_have_text("Follow live")
        bare.slider.press("End")
        expect(live).to_have_text("Live")
        bare.deliver(messages[4:6])
        expect(bare.slider).to_have_attribute("aria-valuenow", "5")


@pytest.mark.parametrize("width", [420, 720, 1000, 1400])
def test_no_text_is_below_12_px(browser: Browser, width: int) -> None:
    with open_bare(browser, a_run(PROMPT), width=width, concepts=CONCEPTS, weights={"circle": 1.8}) as bare:
        bare.widget.get_by_test_id("chip-1").click()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("red")
        assert bare.widget.evaluate(SMALL_TEXTS) == []
        assert bare.widget.evaluate("(el) => el.scrollWidth - el.clientWidth") <= 1


def test_both_ends_of_a_colour_bar_have_one_notation(browser: Browser) -> None:
    messages = a_run(PROMPT)
    for message in messages:
        if message.content["type"] == "step":
            message.content["maps"]["scales"][1] = [0.00004, 0.141]
    with open_bare(browser, messages) as bare:
        bare.widget.get_by_test_id("chip-1").click()
        expect(bare.widget.locator(".dv-bar .dv-num")).to_have_text(["0", "0.14"])


def test_a_dark_widget_is_printed_on_white_with_its_meters(browser: Browser) -> None:
    concepts = [f"concept {index}" for index in range(12)]
    with open_bare(browser, a_run(PROMPT, concepts=concepts), theme="dark", concepts=concepts) as bare:
        bare.page.emulate_media(media="print")
        colours = bare.widget.evaluate(
            "(root) => [getComputedStyle(root).backgroundColor, getComputedStyle(root).color]"
        )
        assert colours == ["rgb(255, 255, 255)", "rgb(29, 31, 35)"]
        assert bare.widget.evaluate("(root) => getComputedStyle(root).printColorAdjust") == "exact"
        ends = bare.widget.locator(".dv-meters ul").evaluate(
            "(list) => [list.lastElementChild.getBoundingClientRect().bottom, list.getBoundingClientRect().bottom]"
        )
        assert ends[0] <= ends[1] + 1
        expect(bare.widget.get_by_test_id("run")).to_be_hidden()
        expect(bare.widget.get_by_test_id("add-concept")).to_be_hidden()


@pytest.mark.parametrize("ratio", [1.5, 0.6])
@pytest.mark.parametrize("width", [420, 720, 1400])
def test_the_stage_has_the_ratio_of_its_image(browser: Browser, width: int, ratio: float) -> None:
    with open_bare(browser, a_run(PROMPT, ratio=ratio), width=width, concepts=CONCEPTS) as bare:
        frame = box(bare.widget.locator(".dv-frame"))
        assert frame["width"] / frame["height"] == pytest.approx(round(64 * ratio) / 64, rel=0.01)
        assert bare.widget.evaluate("(el) => el.scrollWidth - el.clientWidth") <= 1
        stage, film = box(bare.widget.get_by_test_id("stage")), box(bare.widget.locator(".dv-time"))
        assert stage["y"] + stage["height"] <= film["y"]
        bare.widget.get_by_test_id("tables").click()
        expect(bare.widget.locator(".dv-drawers")).to_be_visible()
        stage, film = box(bare.widget.get_by_test_id("stage")), box(bare.widget.locator(".dv-time"))
        assert stage["y"] + stage["height"] <= film["y"] + 1


@pytest.mark.parametrize("ratio", [2, 0.5])
@pytest.mark.parametrize("width", [420, 720, 1400])
def test_the_maps_of_words_have_the_ratio_of_the_image(browser: Browser, width: int, ratio: float) -> None:
    with open_bare(browser, a_run(PROMPT, ratio=ratio), width=width) as bare:
        tiles = bare.widget.locator(".dv-tiles .dv-map")
        expect(tiles).to_have_count(6)
        for tile in map(box, tiles.all()):
            assert tile["width"] / tile["height"] == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("width", [420, 620, 720, 1040, 1060, 1400])
@pytest.mark.parametrize("height", [600, 768, 900])
def test_the_slider_of_the_opacity_can_be_moved(browser: Browser, width: int, height: int) -> None:
    with open_bare(browser, a_run(PROMPT), width=width) as bare:
        bare.page.set_viewport_size({"width": width + 48, "height": height})
        bare.frames()
        slider, stage = box(bare.widget.locator(".dv-opacity input")), box(bare.widget.get_by_test_id("stage"))
        assert slider["width"] >= 40
        assert slider["x"] + slider["width"] <= stage["x"] + stage["width"] + 1
        bare.widget.locator(".dv-opacity input").click(position={"x": 0, "y": 8})
        expect(bare.widget.locator(".dv-opacity input")).to_have_attribute("aria-valuetext", "0 %")


@pytest.mark.parametrize("width", [420, 1400])
def test_the_buttons_of_a_words_popover_are_one_line_each(browser: Browser, width: int) -> None:
    with open_bare(browser, a_run(PROMPT), width=width) as bare:
        bare.widget.get_by_test_id("chip-2").click()
        bare.widget.get_by_test_id("adjust-word").click()
        buttons = bare.widget.get_by_test_id("word-popover").locator(".dv-popover-do button")
        expect(buttons).to_have_count(5)
        for button in buttons.all():
            expect(button).to_have_css("height", "26px")
            assert button.evaluate("(button) => button.scrollHeight <= button.clientHeight")


def test_escape_leaves_the_full_screen_and_keeps_the_selection(browser: Browser) -> None:
    with open_bare(browser, a_run(PROMPT)) as bare:
        bare.widget.get_by_test_id("chip-1").click()
        button = bare.widget.locator(".dv-full")
        button.click()
        bare.page.wait_for_function("() => document.fullscreenElement?.classList.contains('dv')")
        expect(button).to_have_attribute("aria-pressed", "true")
        assert box(bare.widget)["height"] >= bare.page.evaluate("() => window.innerHeight") - 1
        bare.page.keyboard.press("Escape")
        bare.page.wait_for_function("() => document.fullscreenElement === null")
        expect(button).to_have_attribute("aria-pressed", "false")
        expect(bare.widget.get_by_test_id("chip-1")).to_have_attribute("aria-pressed", "true")
        bare.page.keyboard.press("Escape")
        expect(bare.widget.get_by_test_id("chip-1")).to_have_attribute("aria-pressed", "false")


def test_a_recorded_run_says_what_the_live_one_waits_for(browser: Browser) -> None:
    messages = a_run(PROMPT)
    messages[0].content["shipped"] = True
    notice = "Queued: another run is using this model"
    with open_bare(browser, messages, status="queued", _notice=notice) as bare:
        expect(bare.widget.get_by_test_id("status")).to_have_text(
            f"Recorded run, shown until this one can start · {notice}"
        )


@pytest.mark.parametrize("width", [420, 720, 1400])
def test_labels_under_the_film_cover_no_other_label(browser: Browser, width: int) -> None:
    concepts = ["circle", "square", "red", "night sky", "blue"]
    messages = a_run(PROMPT, steps=30, concepts=concepts)
    (scores,) = [message.content for message in messages if message.content["type"] == "scores"]
    scores["emergence"] = [9, 11, 12, 14, 29]
    with open_bare(browser, messages, width=width, concepts=concepts) as bare:
        strip = box(bare.widget.locator(".dv-marks"))
        expect(bare.widget.locator(".dv-marks i")).to_have_count(5)
        labels = bare.widget.locator(".dv-marks button")
        lanes: dict[str | None, list[Any]] = {}
        for label in labels.all():
            lanes.setdefault(label.get_attribute("data-lane"), []).append(box(label))
        assert sum(map(len, lanes.values())) >= 3
        for boxes in lanes.values():
            for left, right in itertools.pairwise(sorted(boxes, key=lambda place: place["x"])):
                assert left["x"] + left["width"] <= right["x"] + 1
            assert all(strip["x"] - 8 <= place["x"] for place in boxes)
            assert all(place["x"] + place["width"] <= strip["x"] + strip["width"] + 8 for place in boxes)


@pytest.mark.parametrize("width", [420, 720, 1400])
def test_pins_of_notes_cover_no_mark_below_the_film_and_no_button_above_it(browser: Browser, width: int) -> None:
    messages = a_run(PROMPT, steps=30, concepts=CONCEPTS)
    (scores,) = [message.content for message in messages if message.content["type"] == "scores"]
    scores["emergence"] = [0, 12]
    messages[0].content["notes"] = [{"text": "Look", "step": step, "words": [], "region": None} for step in (0, 12, 29)]
    with open_bare(browser, messages, width=width, concepts=CONCEPTS) as bare:
        bare.widget.get_by_test_id("status").hover()
        pins = bare.widget.locator(".dv-pins button")
        expect(pins).to_have_count(3)
        others = bare.widget.locator(".dv-marks :is(i, button), .dv-transport button:visible")
        expect(bare.widget.locator(".dv-marks i")).to_have_count(2)
        for pin, other in itertools.product(map(box, pins.all()), map(box, others.all())):
            is_beside = pin["x"] + pin["width"] <= other["x"] or other["x"] + other["width"] <= pin["x"]
            is_over = pin["y"] + pin["height"] <= other["y"] or other["y"] + other["height"] <= pin["y"]
            assert is_beside or is_over, (pin, other)


@pytest.mark.parametrize("width", [420, 720, 1400])
def test_the_sentence_of_the_verdicts_covers_no_other_text(browser: Browser, width: int) -> None:
    concepts = ["circle", "square", "red", "blue", "night", "triangle"]
    messages = a_run(PROMPT, concepts=concepts)
    (scores,) = [message.content for message in messages if message.content["type"] == "scores"]
    scores["present"] = [[1, 0, None, None, 0, 1]] * 6
    with open_bare(browser, messages, width=width, concepts=concepts) as bare:
        verdicts = bare.widget.get_by_test_id("verdicts")
        expect(verdicts).to_have_text(
            "From step 6 alone: is it in the image? yes: circle, triangle; not sure yet: red, blue; no: square, night"
        )
        texts = bare.widget.locator(".dv-meters, .dv-maps .dv-title").evaluate_all(TEXT_LINES)
        assert len(texts) > 6
        for (name, upper), (other, lower) in itertools.combinations(texts, 2):
            apart = upper["bottom"] + 1 <= lower["top"] or lower["bottom"] + 1 <= upper["top"]
            beside = upper["right"] <= lower["left"] + 1 or lower["right"] <= upper["left"] + 1
            assert apart or beside, (name, other)


@pytest.mark.parametrize("width", [420, 620, 720, 1060])
@pytest.mark.parametrize("count", [1, 2])
def test_names_and_numbers_of_colour_bars_are_not_cut(browser: Browser, width: int, count: int) -> None:
    messages = a_run("a triangle above a photograph")
    for message in messages:
        if message.content["type"] == "step":
            message.content["maps"]["scales"] = [[0.012, 0.141]] * 5
    with open_bare(browser, messages, width=width) as bare:
        bare.page.set_viewport_size({"width": width + 48, "height": 600})
        for index in (1, 4)[:count]:
            bare.widget.get_by_test_id(f"chip-{index}").click(modifiers=["Shift"])
        bars = bare.widget.locator(".dv-bar")
        expect(bars).to_have_count(count)
        for bar in bars.all():
            for part in [bar, *bar.locator("span").all()]:
                assert part.evaluate("(part) => part.scrollWidth - part.clientWidth") <= 1, part.inner_text()
            assert box(bar.locator("i"))["width"] >= 24
