"""The drawer Decision in a bare page: asking, stopping, the curve on the shared slider, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, expect

from diffvis_widget.wire.images import webp
from diffvis_widget.wire.packed_run import Message
from tests.browser.bare import Bare, a_run, open_bare
from tests.browser.test_more import AXE

PROMPT = "a red circle"


def decision(word: str = "red", to: str = "blue", at: float | None = 3.3, **over: Any) -> dict[str, Any]:
    mean = [0.0, 0.05, 0.1, 0.4, 0.85, 1.0, 1.0]
    rows = [[max(0.0, value - 0.1) for value in mean], [min(1.0, value + 0.1) for value in mean]]
    fields = {
        "word": word, "to": to, "steps": 6, "switch": list(range(7)), "seeds": 2, "mean": mean, "shares": rows,
        "band": [[low, high] for low, high in zip(*rows, strict=True)], "decision": at,
        "interval": [None, None] if at is None else [at - 0.4, at + 0.5], "agreeing": 2, "images": 0,
    }  # fmt: skip
    return {**fields, **over}


def standing(state: str, share: float = 0.0, left: float | None = None, error: str = "", **result: Any) -> Message:
    return Message({**result, "type": "job", "state": state, "progress": share, "seconds_left": left, "error": error})


def decisions_message(*decisions: dict[str, Any]) -> Message:
    return Message({"type": "decisions", "decisions": list(decisions)})


@pytest.fixture
def opened(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Bare]:
    """A page with a finished run and the drawer open."""
    theme = getattr(request, "param", "light")
    with open_bare(browser, a_run(PROMPT), theme=theme, concepts=["circle", "red"]) as bare:
        bare.answer(decisions_message())
        bare.answer(standing("done", 1, **decision()))
        expect(bare.slider).to_have_attribute("aria-valuenow", "6")
        bare.widget.get_by_test_id("decision").click()
        expect(drawer(bare)).to_contain_text("Swaps the words at different steps")
        yield bare


def drawer(bare: Bare) -> Locator:
    return bare.widget.locator(".dv-decision")


def ask(bare: Bare, word: str = "red", to: str = "blue", seeds: str = "2") -> None:
    view = drawer(bare)
    view.get_by_label("Word", exact=True).select_option(word)
    view.get_by_label("Replacement").fill(to)
    view.get_by_label("seeds").fill(seeds)
    view.get_by_label("Replacement").press("Enter")


def test_a_word_of_the_run_is_asked_about_and_the_answer_is_a_sentence(opened: Bare) -> None:
    view = drawer(opened)
    expect(view.get_by_label("Word", exact=True).locator("option")).to_have_text(["a", "red", "circle"])
    ask(opened)
    expect(view.get_by_role("status")).to_have_text(
        "“red” was decided after 3.3 of 6 steps (95 %: 2.9 to 3.8): replacing it with “blue” before then changes the "
        "image, later it does not."
    )
    (request,) = opened.sent("job")
    assert request["task"] == {"kind": "decision", "run": "r1", "word": "red", "to": "blue", "seeds": 2}
    assert opened.sent("run") == []
    mark = opened.widget.get_by_role("button", name=re.compile(r"\bred decided\b.* at step 4: go there"))
    mark.click()
    expect(opened.slider).to_have_attribute("aria-valuenow", "4")


def test_the_word_is_the_one_that_was_chosen(opened: Bare) -> None:
    expect(drawer(opened).get_by_label("Word", exact=True)).to_have_value("circle")  # the first concept
    opened.widget.get_by_test_id("chip-1").click()
    expect(drawer(opened).get_by_label("Word", exact=True)).to_have_value("red")


def test_the_curve_and_the_slider_are_one(opened: Bare) -> None:
    ask(opened)
    curve = opened.widget.get_by_test_id("decision-curve")
    expect(curve).to_be_visible()
    box, film = curve.bounding_box(), opened.slider.bounding_box()
    assert box is not None
    assert film is not None
    assert (box["x"], box["width"]) == pytest.approx((film["x"], film["width"]), abs=1)
    curve.click(position={"x": box["width"] * 2.5 / 6, "y": 20})
    expect(opened.slider).to_have_attribute("aria-valuenow", "3")
    expect(curve).to_have_attribute("aria-valuetext", "replaced from step 3 on: share of red 0.10")
    curve.press("ArrowRight")
    expect(opened.slider).to_have_attribute("aria-valuenow", "4")
    opened.slider.press("Home")
    expect(curve).to_have_attribute("aria-valuenow", "1")
    opened.page.wait_for_function("() => window.traits.step === 0")


def test_the_images_of_the_exchange_are_a_film_on_the_same_slider(opened: Bare) -> None:
    shades = [webp(np.full((8, 8, 3), 40 * step, np.uint8)) for step in range(7)]
    done = standing("done", 1, **decision(images=7))
    opened.answer(Message(done.content, tuple(shades)))
    ask(opened)
    film = opened.widget.get_by_test_id("decision-film")
    expect(film.locator("img")).to_have_count(6)  # the seventh is the run itself
    box, strip = film.bounding_box(), opened.slider.bounding_box()
    assert box is not None
    assert strip is not None
    assert (box["x"], box["width"]) == pytest.approx((strip["x"], strip["width"]), abs=1)
    film.click(position={"x": box["width"] * 2.5 / 6, "y": 20})
    expect(opened.slider).to_have_attribute("aria-valuenow", "3")
    large = drawer(opened).get_by_role("img", name="The final image with blue in place of red from step 3 on")
    expect(large).to_be_visible()
    expect(drawer(opened).get_by_role("img", name="The final image with red", exact=True)).to_be_visible()
    expect(drawer(opened)).to_contain_text("If “red” had become “blue” at step 3")
    opened.slider.press("Home")
    expect(drawer(opened)).to_contain_text("If “red” had become “blue” at step 1")


def test_it_says_how_far_it_is_and_can_be_stopped(opened: Bare) -> None:
    opened.answer(standing("running", 0.4, 12))
    opened.answer(Message({"type": "cancel"}))
    ask(opened)
    view = drawer(opened)
    expect(view.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    expect(view).to_contain_text("40 % · 12 s left")
    expect(view.get_by_test_id("compute-decision")).to_be_disabled()
    view.get_by_role("button", name="Stop").click()
    expect(view).to_contain_text("stopped")
    assert [request["task"]["to"] for request in opened.sent("cancel")] == ["blue"]
    opened.answer(standing("done", 1, **decision()))
    view.get_by_test_id("compute-decision").click()
    expect(view.get_by_role("status")).to_contain_text("was decided")


def test_pairs_that_were_found_are_there_again(opened: Bare) -> None:
    ask(opened)
    expect(drawer(opened).get_by_role("status")).to_contain_text("“blue”")
    opened.answer(standing("done", 1, **decision("circle", "star", 1.2)))
    ask(opened, "circle", "star")
    expect(drawer(opened).get_by_role("status")).to_contain_text("“circle” was decided after 1.2")
    drawer(opened).get_by_role("button", name="red → blue").click()
    expect(drawer(opened).get_by_role("status")).to_contain_text("“red” was decided after 3.3")
    opened.answer(decisions_message(decision(), decision("circle", "star", 1.2)))
    opened.widget.get_by_test_id("decision").click()
    mark = opened.widget.get_by_role("button", name=re.compile(r"\bred decided\b.* at step 4: go there"))
    expect(mark).to_have_count(0)
    opened.widget.get_by_test_id("decision").click()
    expect(drawer(opened).get_by_role("button", name="circle → star")).to_have_attribute("aria-pressed", "true")


def test_another_run_has_decisions_of_its_own(opened: Bare) -> None:
    ask(opened)
    expect(drawer(opened).get_by_role("status")).to_be_visible()
    opened.deliver(a_run("a green star", run="r2"))
    expect(drawer(opened).get_by_role("status")).to_have_count(0)
    expect(drawer(opened).get_by_label("Word", exact=True).locator("option")).to_have_text(["a", "green", "star"])
    assert [request["run"] for request in opened.sent("decisions")] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("to", "seeds", "message"),
    [
        ("  ", "2", "Type a word to replace “red” with."),
        ("blue", "0", "seeds is “0”: it must be a whole number from 1 to 32."),
        ("blue", "many", "seeds is “many”"),
    ],
)
def test_what_cannot_be_asked_is_said_in_place(opened: Bare, to: str, seeds: str, message: str) -> None:
    ask(opened, to=to, seeds=seeds)
    expect(drawer(opened).get_by_role("alert")).to_contain_text(message)
    assert opened.sent("job") == []


def test_what_went_wrong_is_told_as_text_and_can_be_asked_again(opened: Bare) -> None:
    opened.answer(standing("failed", 0.2, error="to must be <b>another</b> word"))
    ask(opened)
    expect(drawer(opened)).to_contain_text("to must be <b>another</b> word")
    opened.answer(standing("done", 1, **decision()))
    ask(opened, to="green")
    expect(drawer(opened).get_by_role("status")).to_contain_text("was decided")
    expect(drawer(opened)).not_to_contain_text("another")


def test_words_that_look_alike_have_no_decision(opened: Bare) -> None:
    opened.answer(standing("done", 1, **decision(at=None)))
    ask(opened)
    expect(drawer(opened).get_by_role("status")).to_contain_text("The meter cannot distinguish the two")
    expect(opened.widget.locator(".dv-plot line")).to_have_count(0)
    expect(opened.widget.get_by_role("button", name="decided at")).to_have_count(0)


def test_few_seeds_say_how_many_agree(opened: Bare) -> None:
    opened.answer(standing("done", 1, **decision(seeds=3, agreeing=2, interval=[None, None])))
    ask(opened)
    expect(drawer(opened).get_by_role("status")).to_contain_text("3.3 of 6 steps (2 of 3 seeds agree within a step)")
    expect(opened.widget.locator(".dv-plot rect")).to_have_count(0)


def test_it_waits_until_the_run_is_done_and_for_a_pipeline(browser: Browser) -> None:
    with open_bare(browser, a_run(PROMPT)[:-1], status="running") as bare:
        bare.widget.get_by_test_id("decision").click()
        expect(drawer(bare)).to_contain_text("when the run is done")
        expect(bare.widget.get_by_test_id("compute-decision")).to_be_disabled()
    with open_bare(browser, a_run(PROMPT), _can_run=False) as bare:
        bare.answer(decisions_message())
        bare.widget.get_by_test_id("decision").click()
        expect(drawer(bare)).to_contain_text("a recorded run has none")


@pytest.mark.parametrize("opened", ["light", "dark"], indirect=True)
def test_axe_finds_nothing(opened: Bare) -> None:
    opened.page.add_script_tag(path=AXE)
    opened.answer(decisions_message(decision(), decision("circle", "star", 1.2)))
    opened.widget.get_by_test_id("decision").click()
    opened.widget.get_by_test_id("decision").click()
    expect(drawer(opened).get_by_role("status")).to_be_visible()
    opened.answer(standing("running", 0.4, 12))
    ask(opened)
    expect(drawer(opened).get_by_role("progressbar")).to_be_visible()
    violations = opened.page.evaluate(
        """async () => (await axe.run('.dv')).violations.map(
            (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)"""
    )
    assert not violations, violations
