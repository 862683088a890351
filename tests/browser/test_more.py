"""What the kernel sends when somebody turns to the widget, in a bare page: weights, order, runs, compare, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from diffvis_widget.wire.packed_run import Message, pack
from tests.browser.bare import Bare, a_run, open_bare

AXE = Path(__file__).parent.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
OLD, NEW = "a red circle", "a small green circle"


def entry(run: str, prompt: str, **over: Any) -> dict[str, Any]:
    plain = {"seed": 7, "steps": 6, "guidance_scale": 7.5, "schedule": "uniform", "schedule_strength": 60.0}
    state = {"weights": {}, "state": "done", "finished": 6, "has_image": False}
    return {"run": run, "prompt": prompt, **plain, **state, **over}


def numbers() -> Message:
    words = [
        {"a": 0, "b": 0, "change": "same"},
        {"a": None, "b": 1, "change": "added"},
        {"a": 1, "b": 2, "change": "replaced"},
        {"a": 2, "b": 3, "change": "same"},
    ]
    distance = [0.0, 0.1, 0.2, 0.4, 0.8, 1.0]
    maps = [[0.1, None, 0.5, 0.2]] * 6
    course = {"steps": [[i, i] for i in range(6)], "distance": distance, "threshold": 0.3, "divergence_step": 3}
    reply = {"align": "index", "words": words, "maps": maps, "image_difference": 0.2, **course}
    return Message({"type": "compare", **reply})


@pytest.fixture
def two(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Bare]:
    """A page on which one run followed another; the kernel keeps a third."""
    theme = getattr(request, "param", "light")
    with open_bare(browser, a_run(OLD), theme=theme, concepts=["circle", "red"], _comparison_run="") as bare:
        runs = [entry("r0", OLD, seed=3), entry("r1", OLD), entry("r2", NEW, weights={"green": 1.5, "a": None})]
        bare.answer(Message({"type": "runs", "limit": 8, "runs": runs}))
        bare.answer(numbers())
        packed = pack(a_run(OLD, run="r0"))
        bare.answer(Message({"type": "packed", "run": "r0"}, (packed,)))
        bare.set(prompt=NEW)
        bare.deliver(a_run(NEW, run="r2"))
        expect(bare.widget.get_by_test_id("chip-3")).to_be_visible()
        yield bare


def drag(bare: Bare, what: Locator, dy: float) -> None:
    box = what.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    bare.page.mouse.move(x, y)
    bare.frames()
    bare.page.mouse.down()
    bare.page.mouse.move(x, y + dy / 2)
    bare.page.mouse.move(x, y + dy)
    bare.frames()


def pixels(canvas: Locator) -> str:
    return canvas.evaluate("(canvas) => canvas.toDataURL()")


def on_stage(bare: Bare) -> Locator:
    """The images that are compared: the stage shows them in place of its own."""
    return bare.widget.get_by_test_id("stage").locator(".dv-pair")


def until_more(bare: Bare) -> None:
    """Turn to the widget, and wait until what comes with that is there."""
    bare.widget.get_by_test_id("status").hover()
    bare.widget.get_by_test_id("tables").click()
    expect(bare.widget.locator(".dv-tables")).to_be_visible()
    bare.widget.get_by_test_id("tables").click()


def test_words_that_changed_since_the_run_before_are_marked(two: Bare) -> None:
    marked = two.widget.locator(".dv-chip[data-changed]")
    expect(marked).to_have_text(["small (changed)", "green (changed)"])


def test_a_dragged_chip_weighs_its_word_and_runs_again(two: Bare) -> None:
    until_more(two)
    chip = two.widget.get_by_test_id("chip-2")
    drag(two, chip, -30)
    expect(chip).to_contain_text("×1.6")
    assert two.sent("run") == []
    two.page.mouse.up()
    assert two.page.evaluate("() => window.traits.weights") == {"green": 1.6}
    assert two.sent("run") == [{"type": "run"}]
    expect(chip).to_have_attribute("aria-pressed", "false")
    two.set(status="done")
    drag(two, chip, 200)
    two.page.mouse.up()
    assert two.page.evaluate("() => window.traits.weights") == {"green": 0}
    chip.click(modifiers=["Alt"])
    assert two.page.evaluate("() => window.traits.weights") == {"green": None}
    expect(chip).to_contain_text("left out")
    chip.click(modifiers=["Alt"])
    assert two.page.evaluate("() => window.traits.weights") == {}
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")


def test_keys_weigh_a_word(two: Bare) -> None:
    two.widget.get_by_test_id("chip-0").focus()
    until_more(two)
    chip = two.widget.get_by_test_id("chip-2")
    chip.focus()
    for key in ("Alt+ArrowUp", "Alt+ArrowUp", "Alt+ArrowDown", "Alt+ArrowUp"):
        chip.press(key)
    assert two.page.evaluate("() => window.traits.weights") == {"green": 1.2}
    chip.press("Alt+Delete")
    assert two.page.evaluate("() => window.traits.weights") == {"green": None}
    assert len(two.sent("run")) == 5
    expect(two.slider).to_have_attribute("aria-valuenow", "6")


def test_meters_are_put_in_order_by_hand_and_by_keys(two: Bare) -> None:
    two.set(concepts=["circle", "red", "green"])
    until_more(two)
    drag(two, two.widget.get_by_test_id("meter-circle").locator(".dv-meter-name"), 60)
    two.page.mouse.up()
    assert two.page.evaluate("() => window.traits.concepts") == ["red", "green", "circle"]
    button = two.widget.get_by_role("button", name="Remove green")
    button.focus()
    button.press("Alt+ArrowUp")
    assert two.page.evaluate("() => window.traits.concepts") == ["green", "red", "circle"]
    expect(button).to_be_focused()
    button.press("Alt+ArrowUp")
    assert two.page.evaluate("() => window.traits.concepts") == ["green", "red", "circle"]


def test_the_curves_and_the_film_say_what_is_under_the_pointer(two: Bare) -> None:
    until_more(two)
    note = two.widget.locator(".dv-note")
    curve = two.widget.get_by_test_id("meter-circle").locator(".dv-spark")
    box = curve.bounding_box()
    assert box is not None
    curve.hover(position={"x": box["width"] * 2.5 / 6, "y": 10})
    expect(note).to_have_text("circle at step 3: 0.18")
    film = two.slider.bounding_box()
    assert film is not None
    two.slider.hover(position={"x": film["width"] * 1.5 / 6, "y": 20})
    expect(note).to_have_text("step 2 · t = 666 · σ = 1.00")
    two.widget.get_by_test_id("status").hover()
    expect(note).not_to_contain_text("step 2")
    curve.click(position={"x": box["width"] * 2.5 / 6, "y": 10})
    expect(two.slider).to_have_attribute("aria-valuenow", "3")


def test_the_run_before_lies_beside_the_new_one_on_one_slider(two: Bare) -> None:
    two.widget.get_by_test_id("offer-compare").get_by_role("button").click()
    view = two.widget.locator(".dv-compare")
    expect(two.widget.get_by_test_id("offer-compare")).to_have_count(0)
    expect(view.get_by_test_id("differences")).to_have_text("A → B: prompt · green ×1 → ×1.5 · a ×1 → left out")
    expect(on_stage(two).locator("figcaption")).to_have_text([f"A {OLD}", f"B {NEW}"])
    expect(view).to_contain_text("They diverge at step 4")
    assert two.sent("packed") == []
    assert [(request["a"], request["b"]) for request in two.sent("compare")] == [("r1", "r2")]
    expect(view.locator(".dv-chip")).to_contain_text(
        ["a0.10", "small (added)", "red green (replaced)0.50", "circle0.20"]
    )
    mark = two.widget.get_by_role("button", name=re.compile("^A and B diverge.* at step 4: go there"))
    mark.click()
    expect(two.slider).to_have_attribute("aria-valuenow", "4")
    expect(view.locator(".dv-course .dv-num")).to_have_text("distance at step 4: 0.40")
    canvases = on_stage(two).locator("canvas")
    before = [pixels(canvases.nth(0)), pixels(canvases.nth(1))]
    view.locator(".dv-chip", has_text="circle").click()
    expect(two.widget.get_by_test_id("chip-3")).to_have_attribute("aria-pressed", "true")
    assert pixels(canvases.nth(0)) != before[0]
    assert pixels(canvases.nth(1)) != before[1]
    view.locator("select").select_option("r0")
    two.page.wait_for_function("() => window.sent.filter((message) => message.type === 'compare').length === 2")
    assert [request["run"] for request in two.sent("packed")] == ["r0"]
    assert [(request["a"], request["b"]) for request in two.sent("compare")] == [("r1", "r2"), ("r0", "r2")]
    two.widget.get_by_test_id("compare").click()
    expect(mark).to_have_count(0)


def test_one_is_wiped_over_the_other_and_their_difference_is_shown(two: Bare) -> None:
    two.widget.get_by_test_id("compare").click()
    view = two.widget.locator(".dv-compare")
    view.get_by_role("button", name="Swipe").click()
    line = on_stage(two).get_by_role("slider", name="The line between A and B")
    line.press("End")
    only_a = pixels(on_stage(two).locator("canvas").first)
    line.press("Home")
    assert pixels(on_stage(two).locator("canvas").first) != only_a
    view.get_by_role("button", name="Difference").click()
    expect(on_stage(two).locator("figcaption").first).to_contain_text("of 255")
    image = two.widget.get_by_role("application")
    expect(image).to_be_hidden()
    two.widget.get_by_test_id("compare").click()
    expect(on_stage(two)).to_have_count(0)
    expect(image).to_be_visible()


def test_python_opens_the_comparison(two: Bare) -> None:
    two.set(_comparison_run="r0")
    expect(on_stage(two).locator("figcaption")).to_have_text([f"A {OLD}", f"B {NEW}"])
    two.page.wait_for_function("() => window.sent.some((message) => message.type === 'compare' && message.a === 'r0')")
    assert [request["run"] for request in two.sent("packed")] == ["r0"]


def test_a_refused_comparison_is_told_and_the_images_stay(two: Bare) -> None:
    two.page.evaluate("() => { delete window.answers.compare; }")
    two.widget.get_by_test_id("compare").click()
    view = two.widget.locator(".dv-compare")
    expect(on_stage(two).locator("figcaption")).to_have_count(2)
    (request,) = two.sent("compare")
    error = {"type": "error", "run": None, "seq": 90, "id": request["id"], "message": "other <b>latent</b> shapes"}
    two.page.evaluate("(error) => window.deliver(error, [])", error)
    expect(view).to_contain_text("other <b>latent</b> shapes")
    assert on_stage(two).locator("canvas").count() == 2


def test_runs_are_listed_shown_again_and_compared(two: Bare) -> None:
    two.widget.get_by_test_id("runs").click()
    view = two.widget.locator(".dv-runs")
    rows = view.locator(".dv-past")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("green ×1.5 · without a")
    expect(rows.nth(0).get_by_role("button", name="Shown")).to_be_disabled()
    rows.nth(1).get_by_role("button", name="Show").click()
    assert two.sent("show") == [{"type": "show", "run": "r1"}]
    rows.nth(2).get_by_role("button", name="Compare").click()
    expect(two.widget.locator(".dv-compare select")).to_have_value("r0")
    view.get_by_role("button", name="Early").click()
    strength = view.get_by_role("textbox", name="strength")
    strength.fill("90")
    strength.press("Enter")
    negative = view.get_by_role("textbox", name="without")
    negative.fill("dark")
    negative.press("Enter")
    traits = two.page.evaluate("() => window.traits")
    assert (traits["schedule"], traits["schedule_strength"], traits["negative_prompt"]) == ("early", 90, "dark")
    assert two.sent("run") == [{"type": "run"}, {"type": "run"}]


def test_tables_say_what_the_meters_and_maps_show_without_a_kernel_too(two: Bare) -> None:
    until_more(two)
    two.page.evaluate("() => { window.alive = false; document.querySelector('.dv').parentElement.className = "
                      "'jupyter-widgets-disconnected'; }")  # fmt: skip
    two.widget.get_by_test_id("tables").click()
    scores = two.widget.get_by_role("table", name="Cosine of each concept")
    expect(scores.get_by_role("row")).to_have_count(7)
    expect(scores.get_by_role("row").nth(1)).to_contain_text("0.10 to 0.20")
    words = two.widget.get_by_role("table", name="Attention of each word at step 6")
    expect(words.get_by_role("rowheader")).to_have_text(NEW.split())
    two.slider.press("Home")
    expect(two.widget.get_by_role("table", name="Attention of each word at step 1")).to_be_visible()


@pytest.mark.parametrize("two", ["light", "dark"], indirect=True)
def test_axe_finds_nothing_in_what_opens(two: Bare) -> None:
    two.page.add_script_tag(path=AXE)
    two.set(weights={"green": 1.5, "small": None})
    for name in ("compare", "runs", "tables", "layers", "notes"):
        two.widget.get_by_test_id(name).click()
    expect(two.widget.locator(".dv-past")).to_have_count(3)
    expect(two.widget.locator(".dv-course")).to_contain_text("They diverge")
    two.widget.get_by_role("button", name="Add a note").click()
    for mode in ("Side by side", "Swipe", "Difference"):
        two.widget.get_by_role("button", name=mode).click()
        violations = two.page.evaluate(
            """async () => (await axe.run('.dv')).violations.map(
                (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)"""
        )
        assert not violations, (mode, violations)


def test_a_note_is_written_by_keys(two: Bare) -> None:
    until_more(two)
    two.slider.press("Home")
    two.widget.get_by_test_id("notes").press("Enter")
    two.widget.get_by_role("button", name="Add a note").press("Enter")
    field = two.widget.locator(".dv-notes textarea")
    expect(field).to_be_focused()
    two.page.keyboard.type("Look here")
    two.page.keyboard.press("ArrowLeft")  # moves in the text, not along the steps
    two.page.keyboard.press("Control+Enter")
    two.page.wait_for_function("() => window.sent.some((message) => message.type === 'notes')")
    written = two.sent("notes")[0]
    assert written["run"] == "r2"
    assert written["notes"] == [{"text": "Look here", "step": 0, "words": [], "region": None}]
    expect(two.slider).to_have_attribute("aria-valuenow", "1")
