"""The built widget in a bare page: no kernel, hostile texts, keys alone, hard runs, assistive technology."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from diffvis_widget.traces import Word
from tests.browser.bare import Bare, a_run, open_bare

AXE = Path(__file__).parent.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
EVIL = '<img src=x onerror="window.hacked=1"><b>bold</b>'


def stage_pixels(bare: Bare) -> str:
    return bare.widget.get_by_test_id("stage").locator("canvas").evaluate("(canvas) => canvas.toDataURL()")


def until_drawn(bare: Bare) -> None:
    bare.page.wait_for_function(
        """() => {
            const canvas = document.querySelector('[data-testid=stage] canvas');
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value, i) => i % 4 < 3 && value !== data[i % 4]);
        }"""
    )


def sticks_out(bare: Bare) -> int:
    return bare.widget.evaluate("(el) => el.scrollWidth - el.clientWidth")


def test_a_saved_run_scrubs_without_a_kernel(browser: Browser) -> None:
    with open_bare(browser, a_run(), alive=False) as bare:
        expect(bare.widget.get_by_test_id("status")).to_contain_text("No kernel")
        until_drawn(bare)
        bare.slider.focus()
        last = stage_pixels(bare)
        bare.slider.press("Home")
        expect(bare.slider).to_have_attribute("aria-valuenow", "1")
        bare.page.wait_for_function(
            "(last) => document.querySelector('[data-testid=stage] canvas').toDataURL() !== last", arg=last
        )
        bare.widget.get_by_test_id("chip-1").click()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("red")
        expect(bare.widget.get_by_test_id("run")).to_be_disabled()


def test_lost_messages_heal(browser: Browser) -> None:
    messages = a_run()
    with open_bare(browser) as bare:
        bare.deliver([message for message in messages if message.content.get("index") not in (1, 2)])
        bare.page.wait_for_function("() => window.sent.filter((message) => message.type === 'hello').length === 2")
        request = bare.page.evaluate("() => window.sent.filter((message) => message.type === 'hello')[1]")
        assert (request["run"], request["have"]) == ("r1", [0, 3, 4, 5])
        bare.deliver(messages[2:4])
        bare.slider.focus()
        bare.slider.press("Home")
        bare.slider.press("ArrowRight")
        expect(bare.slider).to_have_attribute("aria-valuetext", re.compile("^Step 2 of 6, t = "))


def test_every_message_is_acknowledged_and_a_second_view_asks_for_the_run(browser: Browser) -> None:
    messages = a_run()
    with open_bare(browser) as bare:
        bare.deliver(messages)
        acked = bare.page.evaluate("() => window.sent.map((m) => m.type === 'ack' ? m.seq : -1).filter((s) => s >= 0)")
        assert acked == [message.content["seq"] for message in messages]
        bare.page.evaluate("() => { window.closeSecond = window.show(); }")
        hello = bare.page.evaluate("() => window.sent.filter((message) => message.type === 'hello').at(-1)")
        assert hello["have"] == []
        bare.deliver(messages)
        expect(bare.page.get_by_test_id("slider").nth(1)).to_have_attribute("aria-valuemax", "6")


def test_views_that_are_closed_leave_nothing(browser: Browser) -> None:
    with open_bare(browser, a_run()) as bare:
        before = bare.page.evaluate("() => [window.listeners.length, document.querySelectorAll('*').length]")
        bare.page.evaluate("() => { for (let i = 0; i < 50; i++) window.show()(); }")
        after = bare.page.evaluate("() => [window.listeners.length, document.querySelectorAll('*').length]")
        assert after == before


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("1000 steps", {"steps": 1000, "size": 16, "grid": 4}),
        ("300 words", {"words": [Word(f"word{i}", (i,), "word" if i < 75 else "truncated") for i in range(300)]}),
        ("100 concepts", {"concepts": [f"concept {i}" for i in range(100)]}),
        ("2048 px", {"steps": 2, "size": 2048, "grid": 64}),
        ("NaN", {"nan": True}),
        ("one step", {"steps": 1}),
        ("failed at step 3", {"state": "failed", "finished": 2, "error": "ValueError: no"}),
    ],
)
def test_hard_runs_are_shown(browser: Browser, name: str, options: dict[str, Any]) -> None:
    messages = a_run(**options)
    concepts = options.get("concepts", ["circle", "red"])
    failed = options.get("state") == "failed"
    outcome = ("failed", "ValueError: no") if failed else ("done", "")
    with open_bare(browser, messages, concepts=concepts, status=outcome[0], error=outcome[1]) as bare:
        until_drawn(bare)
        finished = sum(message.content["type"] == "step" for message in messages)
        expect(bare.slider).to_have_attribute("aria-valuemax", str(finished))
        bare.slider.focus()
        for key in ("Home", "ArrowRight", "End"):
            bare.slider.press(key)
        expect(bare.slider).to_have_attribute("aria-valuenow", str(finished))
        bare.widget.get_by_test_id("chip-1").click()
        if name == "NaN":
            expect(bare.widget.locator(".dv-bar")).to_contain_text("not recorded")
        if name == "300 words":
            expect(bare.widget.locator("[data-kind=truncated]")).to_have_count(225)
        if name == "100 concepts":
            expect(bare.widget.locator(".dv-meters li")).to_have_count(100)
        if failed:
            expect(bare.widget).to_contain_text("ValueError: no")
            expect(bare.widget.get_by_test_id("status")).to_contain_text("Failed at step 3")
        assert sticks_out(bare) <= 1


def test_text_is_text_in_every_view(browser: Browser) -> None:
    words = [Word(EVIL, (index,), kind) for index, kind in enumerate(("word", "special", "word"))]
    messages = a_run(EVIL, words=words, concepts=[EVIL], state="failed", finished=3, error=EVIL)
    messages[0].content["meter"] = EVIL
    messages[0].content["words"][2]["encoder"] = EVIL
    with open_bare(browser, messages, concepts=[EVIL], status="failed", error=EVIL) as bare:
        until_drawn(bare)
        bare.widget.get_by_role("button", name=re.compile("special tokens")).click()
        bare.widget.get_by_test_id("chip-0").click()
        bare.widget.get_by_test_id("layers").click()
        (request,) = bare.page.evaluate("() => window.sent.filter((message) => message.type === 'layers')")
        answer = {
            **request, "seq": 90,
            "maps": [{"layer": EVIL, "head": None, "grid": [1, 1], "scale": [0, 1], "focus": 0.5}],
        }  # fmt: skip
        bare.page.evaluate("(content) => window.deliver(content, ['AA=='])", answer)
        bare.widget.locator(".dv-layers .dv-tile").click()
        bare.page.evaluate("(text) => window.deliver({type: 'error', run: null, seq: 91, message: text}, [])", EVIL)
        bare.widget.get_by_test_id("stage").locator("canvas").click(position={"x": 40, "y": 40})
        expect(bare.widget.get_by_test_id("region-word-0")).to_have_text(EVIL)
        bare.set(_notice=EVIL)
        bare.frames()
        assert bare.page.evaluate("() => window.hacked") is None
        assert bare.widget.locator("img, .dv b:not(.dv-dot)").count() == 0
        assert bare.page.locator("main").inner_text().count("<img src=x") >= 6


def test_keys_alone_reach_and_work_everything(browser: Browser) -> None:
    with open_bare(browser, a_run(), concepts=["circle", "red"]) as bare:
        until_drawn(bare)
        press = bare.page.keyboard.press
        names: list[str] = []
        while True:
            press("Tab")
            name, outlined = bare.page.evaluate(
                """() => {
                    const at = document.activeElement;
                    if (!at.closest('.dv')) return ['', true];
                    const name = [at.dataset.testid, at.getAttribute('aria-label'), at.labels?.[0]?.textContent,
                        at.textContent].find(Boolean);
                    const shown = [at, at.parentElement, at.closest('form')].filter(Boolean).map(getComputedStyle);
                    return [name, shown.some((s) => s.outlineStyle !== 'none' || s.boxShadow !== 'none')];
                }"""
            )
            if not name:
                break
            assert outlined, f"the focus on {name} cannot be seen"
            names.append(name)
            assert len(names) < 60
        for control in ("prompt-input", "chip-0", "run", "slider", "add-concept", "map-0", "layers", "Contour lines"):
            assert control in names
        # a word, a place, the steps, playing, a concept, a run: without a pointer
        bare.widget.get_by_test_id("chip-0").focus()
        press("ArrowRight")
        press("Enter")
        expect(bare.widget.get_by_test_id("chip-1")).to_have_attribute("aria-pressed", "true")
        bare.widget.locator(".dv-frame").focus()
        press("Enter")
        expect(bare.widget.locator(".dv-maps")).to_contain_text("Words this region attends to")
        press("Escape")
        expect(bare.widget.get_by_test_id("map-0")).to_be_visible()
        bare.slider.focus()
        press("Home")
        press("Space")
        expect(bare.slider).to_have_attribute("aria-valuenow", "6")
        bare.widget.get_by_test_id("add-concept").focus()
        bare.page.keyboard.type("night sky")
        press("Enter")
        assert bare.page.evaluate("() => window.traits.concepts") == ["circle", "red", "night sky"]
        bare.widget.get_by_test_id("prompt-input").focus()
        press("End")
        bare.page.keyboard.type(" at night")
        press("Enter")
        (run,) = bare.page.evaluate("() => window.sent.filter((message) => message.type === 'run')")
        assert run["prompt"] == "a red circle at night"


def test_views_that_open_on_request_come_once_and_work_in_two_widgets(browser: Browser) -> None:
    with open_bare(browser, a_run()) as bare:
        until_drawn(bare)
        before = bare.page.evaluate("() => [Object.keys(window).length, document.head.children.length]")
        bare.page.evaluate("() => { window.closeSecond = window.show(); }")
        first, second = bare.page.locator(".dv").all()
        for number, (widget, word) in enumerate([(first, "red"), (second, "circle")]):
            widget.get_by_test_id(f"chip-{number + 1}").click()
            # What is picked in one reaches the other a moment later, and would take the place of what is picked there.
            for either in (first, second):
                expect(either.get_by_test_id(f"chip-{number + 1}")).to_have_attribute("aria-pressed", "true")
            # By key: what lies under the pointer once the drawer is open would be turned to.
            widget.get_by_test_id("layers").press("Enter")
            expect(widget.get_by_role("heading", name=f"Layers of {word}")).to_be_visible()
            assert [len(bare.sent("more")), len(bare.sent("layers"))] == [number + 1, number + 1]
        first.get_by_test_id("layers").click()
        expect(first.locator(".dv-layers")).to_have_count(0)
        expect(second.locator(".dv-layers")).to_have_count(1)
        first.get_by_test_id("layers").click()
        expect(first.locator(".dv-layers")).to_have_count(1)
        assert len(bare.sent("more")) == 2
        bare.page.evaluate("() => { window.closeSecond(); delete window.closeSecond; }")
        assert bare.page.evaluate("() => [Object.keys(window).length, document.head.children.length]") == before


def test_a_saved_run_offers_nothing_that_needs_a_kernel(browser: Browser) -> None:
    with open_bare(browser, a_run(), alive=False) as bare:
        until_drawn(bare)
        expect(bare.widget.get_by_test_id("layers")).to_have_count(0)


@pytest.mark.parametrize("motion", [False, True])
def test_motion_only_for_those_who_want_it(browser: Browser, motion: bool) -> None:
    with open_bare(browser, motion=motion, status="queued", progress=0) as bare:
        assert bool(bare.page.evaluate("() => document.getAnimations().length")) is motion


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, theme: str) -> None:
    def check(bare: Bare, state: str) -> None:
        violations = bare.page.evaluate(
            """async () => (await axe.run('.dv')).violations.map(
                (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)"""
        )
        assert not violations, (state, violations)

    words = [Word("a", (0,), "word"), Word("red", (1,), "word"), Word("lost", (), "truncated")]
    with open_bare(browser, a_run("a red lost", words=words), theme=theme, concepts=["circle", "red"]) as bare:
        bare.page.add_script_tag(path=AXE)
        until_drawn(bare)
        check(bare, "done")
        bare.widget.get_by_test_id("chip-1").click()
        bare.widget.get_by_test_id("layers").click()
        check(bare, "a word and its layers")
        bare.widget.get_by_test_id("stage").locator("canvas").click(position={"x": 40, "y": 40})
        check(bare, "a place")
        bare.set(status="failed", error="ValueError: no")
        check(bare, "failed")
    with open_bare(browser, theme=theme, status="loading", _notice="Loading the scenes model") as bare:
        bare.page.add_script_tag(path=AXE)
        check(bare, "loading")


def test_nothing_moves_after_the_first_paint(browser: Browser) -> None:
    with open_bare(browser, prompt="a red circle", concepts=["circle", "red"], status="running", steps=6) as bare:
        bare.page.evaluate(
            """() => {
                window.shifts = [];
                new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
                    .observe({ type: 'layout-shift', buffered: true });
            }"""
        )
        for message in a_run():
            bare.deliver([message])
            bare.frames()
        bare.set(status="done")
        bare.slider.focus()
        bare.slider.press("Home")
        bare.frames(4)
        assert bare.page.evaluate("() => window.shifts") == []


def test_nothing_below_the_widget_moves_when_runs_begin_and_end(browser: Browser) -> None:
    with open_bare(browser, prompt="a red circle", concepts=["circle", "red"], steps=6) as bare:
        bare.page.evaluate(
            """() => {
                const below = document.createElement('p');
                below.textContent = 'The next cell of the notebook';
                document.body.append(below);
                window.shifts = [];
                new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((e) => e.value)))
                    .observe({ type: 'layout-shift', buffered: true });
            }"""
        )
        bare.frames(4)
        bare.page.evaluate("() => { window.shifts.length = 0; }")  # those of adding the paragraph
        expect(bare.widget.get_by_test_id("export")).to_have_count(0)
        for run in ("r1", "r2"):
            bare.set(status="queued")
            bare.frames()
            bare.set(status="running")
            for message in a_run(run=run):
                bare.deliver([message])
                bare.frames()
            bare.set(status="done", progress=1)
            bare.frames(4)
            expect(bare.widget.get_by_test_id("export")).to_be_visible()
        assert bare.page.evaluate("() => window.shifts") == []


def test_an_image_is_labelled_with_its_words_while_none_is_chosen_and_the_pointer_is_away(browser: Browser) -> None:
    with open_bare(browser, a_run("a red circle above a house")) as bare:
        until_drawn(bare)
        stage = bare.widget.get_by_test_id("stage").locator("canvas")
        labels = bare.widget.get_by_role("button", name="Words on the image")
        expect(labels).to_have_attribute("aria-pressed", "true")
        expect(stage).to_have_attribute("aria-label", re.compile("with each word at its peak$"))
        labelled = stage_pixels(bare)
        bare.slider.press("Home")
        bare.frames()
        assert stage_pixels(bare) != labelled
        bare.slider.press("End")
        stage.hover(position={"x": 20, "y": 20})
        expect(stage).not_to_have_attribute("aria-label", re.compile("peak$"))
        bare.frames()
        plain = stage_pixels(bare)
        assert plain != labelled
        bare.widget.get_by_test_id("status").hover()
        bare.frames()
        assert stage_pixels(bare) == labelled
        labels.click()
        bare.frames()
        assert stage_pixels(bare) == plain


def test_what_was_typed_stands_before_the_words_of_a_rewritten_prompt(browser: Browser) -> None:
    messages = a_run("a red circle above a house")
    rewritten = messages[0].content["prompt"]
    messages[0].content.update(prompt="circle, house", rewritten=rewritten)
    with open_bare(browser, messages) as bare:
        heading = bare.widget.get_by_test_id("rewritten")
        expect(heading).to_have_text("“circle, house”, rewritten")
        expect(heading).to_have_attribute("title", rewritten)
        expect(bare.widget.locator("[data-kind=word]")).to_have_text(rewritten.split())
    with open_bare(browser, a_run("a red circle")) as bare:
        expect(bare.widget.locator("[data-kind=word]")).to_have_text(["a", "red", "circle"])
        expect(bare.widget.get_by_test_id("rewritten")).to_have_count(0)


def test_a_word_outside_the_prompt_is_added_and_looks_different(browser: Browser) -> None:
    words = [*(Word(text, (index,), "word") for index, text in enumerate(["a", "red", "circle"]))]
    with open_bare(browser, a_run(words=[*words, Word("sky", (3,), "concept")]), _takes_concepts=True) as bare:
        chip = bare.widget.locator('[data-kind="concept"]')
        expect(chip).to_have_text("sky")
        expect(chip).to_have_attribute("title", re.compile("Not in the prompt"))
        assert chip.evaluate("(el) => getComputedStyle(el).borderTopStyle") == "dashed"
        chip.get_by_role("button").click()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("sky")
        bare.widget.get_by_test_id("add-word").click()
        field = bare.widget.get_by_test_id("add-concept")
        expect(field).to_be_focused()
        field.press_sequentially(" green  moon")
        field.press("Enter")
        assert bare.page.evaluate("() => window.traits.concepts") == ["green moon"]
        assert bare.sent("run") == []
        assert sticks_out(bare) == 0
    with open_bare(browser, a_run()) as bare:  # a pipeline without such maps, or none
        expect(bare.widget.get_by_test_id("add-word")).to_have_count(0)
