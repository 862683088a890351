"""The offline page from file://, with the network off: everything but new runs, and no markup from a prompt."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Frame, Page, expect

import diffvis_widget as dv
from diffvis_widget.export.static_output import StaticOutput, frame
from diffvis_widget.traces import ConceptScores, Saliency, Trace, Word, WordRelevance
from tests.traces.build import LAYERS, make_trace

AXE = Path(__file__).parent.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
EVIL = '</script><img src=x onerror="window.hacked=1"><b>bold</b>'
POLICY = re.compile(
    r"default-src 'none'; script-src 'sha256-[A-Za-z0-9+/]{43}='; style-src 'unsafe-inline'; img-src data: blob:; "
    r"base-uri 'none'; form-action 'none'"
)
PIXELS = "(canvas) => canvas.toDataURL()"


def a_trace() -> Trace:
    trace = make_trace(steps=4)
    trace.prompt = f"Red circle, red square {EVIL}"
    trace.words[-2] = Word(EVIL, (7,), "word", (EVIL,))
    rise = np.linspace(0.1, 0.3, 4, dtype=np.float32)[:, None] * np.ones(2, dtype=np.float32)
    null = np.tile(np.array([0.1, 0.2], dtype=np.float32), (4, 1))
    trace.scores = ConceptScores(["circle", EVIL], rise, rise, null, np.array([2, np.nan], "f4"), EVIL)
    trace.note(EVIL, step=1)
    trace.meta |= {"seed": 7, "guidance_scale": 7.5}
    return trace


@dataclass
class Opened:
    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def opened(browser: Browser, path: Path, scheme: Any = None) -> Iterator[Opened]:
    """The page without a network; anything in its console, and any request but for itself, fails the test."""
    options: Any = {"viewport": {"width": 760, "height": 900}, "color_scheme": scheme}
    context = browser.new_context(offline=True, reduced_motion="reduce", **options)
    page = context.new_page()
    shown = Opened(page)
    page.on("console", lambda message: shown.messages.append(message.text))
    page.on("pageerror", lambda error: shown.messages.append(str(error)))
    page.on("request", lambda request: shown.requests.append(request.url))
    try:
        page.goto(path.as_uri())
        yield shown
        assert not shown.messages, shown.messages
        assert [url for url in shown.requests if not url.startswith(("blob:", "data:"))] == [path.as_uri()]
        assert page.evaluate("() => window.hacked") is None
    finally:
        context.close()


def scrub(place: Page | Frame) -> None:
    """Move to the first step and back; the image must follow."""
    slider = place.locator(".dv").get_by_test_id("slider")
    expect(slider).to_have_attribute("aria-valuemax", "4")
    stage = place.locator(".dv").get_by_test_id("stage").locator("canvas:visible").first
    expect(stage).to_be_visible()
    last = stage.evaluate(PIXELS)
    slider.focus()
    slider.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "1")
    shown = "[...document.querySelectorAll('[data-testid=stage] canvas')].find((canvas) => canvas.offsetParent)"
    place.wait_for_function(f"(last) => {shown}.toDataURL() !== last", arg=last)
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return dv.to_html(a_trace(), tmp_path / "run.html", layers=True)


def test_everything_but_new_runs_works_from_a_file(browser: Browser, path: Path) -> None:
    with opened(browser, path) as shown:
        widget = shown.page.locator(".dv")
        scrub(shown.page)
        widget.get_by_test_id("chip-2").click()
        expect(widget.locator(".dv-bar-name")).to_have_text("circle")
        expect(widget.locator(".dv-meters li")).to_have_count(2)
        expect(widget.get_by_test_id("run")).to_have_count(0)
        widget.get_by_test_id("layers").click()
        expect(widget.locator(".dv-layers .dv-tile")).to_have_count(len(LAYERS))
        slider = widget.get_by_test_id("slider")
        slider.focus()
        slider.press("ArrowLeft")
        expect(widget.locator(".dv-layers .dv-tile")).to_have_count(len(LAYERS))
        add = widget.get_by_test_id("add-concept")
        add.fill("dog")
        add.press("Enter")
        expect(widget).to_contain_text("the scores of its own concepts only")
        expect(widget.locator(".dv-meters li")).to_have_count(2)


def test_the_maps_of_the_explaining_methods_come_along(browser: Browser, tmp_path: Path) -> None:
    trace = a_trace()
    values = np.zeros(trace.latents.shape[2:], dtype=np.float32)
    values[0] = 2
    trace.saliency += [Saliency("df_cam", 3, values), Saliency("df_rise", 1, values)]
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        widget = shown.page.locator(".dv")
        widget.get_by_test_id("methods").click()
        tile = widget.get_by_role("button", name="DF-CAM on the stage")
        tile.click()
        expect(tile).to_have_attribute("aria-pressed", "true")
        expect(widget.locator(".dv-bar")).to_have_attribute("title", "DF-CAM: 0 to 2.00")
        widget.get_by_role("toolbar", name="Maps of other steps").get_by_role("button").click()
        expect(widget.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "2")
        expect(widget.locator(".dv-bar")).to_have_attribute("title", "DF-RISE: 0 to 2.00")
        expect(widget.locator(".dv-methods")).to_contain_text("New maps are computed in the notebook.")
        expect(widget.locator(".dv-do")).to_have_count(0)
    trace.saliency.clear()
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        expect(shown.page.get_by_test_id("tables")).to_be_visible()
        expect(shown.page.get_by_test_id("methods")).to_have_count(0)


def with_relevance(schedules: Sequence[str]) -> Trace:
    trace = a_trace()
    rng = np.random.default_rng(2)
    for schedule in schedules:
        timesteps = trace.timesteps if schedule == "uniform" else np.array([900, 800, 700, 600], "f4")
        raw = rng.random((4, len(trace.words))).astype(np.float32)
        trace.relevance.append(WordRelevance(schedule, timesteps, raw))
    return trace


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_curves_of_relevance_come_along(browser: Browser, tmp_path: Path, scheme: str) -> None:
    trace = with_relevance(["late", "uniform", "early"])
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    with opened(browser, dv.to_html(trace, tmp_path / "run.html"), scheme) as shown:
        widget = shown.page.locator(".dv")
        widget.get_by_test_id("methods").click()
        names = ["uniform, this run", "early", "late"]
        expect(widget.locator(".dv-schemes figcaption")).to_have_text([re.compile(f"^{name}") for name in names])
        for place, relevance in zip((2, 0, 1), trace.relevance, strict=True):
            scores = relevance.scaled(trace.words)[:, typed].sum(axis=0)
            cells = widget.locator(f".dv-scores td:nth-child({place + 2})")
            expect(cells).to_have_text([f"{score:.1f}" for score in scores])
        chart = widget.get_by_role("slider", name="Step, on the curves of relevance")
        chart.press("ArrowLeft")
        expect(widget.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "3")
        widget.get_by_role("button", name="Raw").click()
        expect(widget.locator(".dv-do")).to_have_count(0)
        shown.page.evaluate(AXE.read_text(encoding="utf-8"))
        violations = shown.page.evaluate("async () => (await axe.run('.dv')).violations.map((v) => v.id + v.help)")
        assert not violations, violations


def test_curves_without_those_of_the_run_itself_and_none(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, dv.to_html(with_relevance(["late"]), tmp_path / "run.html")) as shown:
        shown.page.get_by_test_id("methods").click()
        expect(shown.page.locator(".dv-schemes figcaption")).to_have_text(re.compile("^late0 to"))
        expect(shown.page.get_by_role("slider", name="Step, on the curves of relevance")).to_have_count(0)
    trace = a_trace()
    trace.saliency.append(Saliency("df_cam", 3, np.ones(trace.latents.shape[2:], dtype=np.float32)))
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        shown.page.get_by_test_id("methods").click()
        expect(shown.page.locator(".dv-relevance")).to_contain_text("Relevance was not computed for this run.")
        expect(shown.page.locator(".dv-schemes")).to_have_count(0)


def test_a_prompt_stays_text_and_the_policy_holds(browser: Browser, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert EVIL not in source
    with opened(browser, path) as shown:
        expect(shown.page.locator(".dv").get_by_test_id("slider")).to_be_visible()
        policy = shown.page.locator("meta[http-equiv]").get_attribute("content")
        assert policy
        assert POLICY.fullmatch(policy)
        assert shown.page.locator("img, b:not(.dv-dot)").count() == 0
        expect(shown.page.locator(".dv")).to_contain_text("<b>bold</b>")
        assert EVIL in shown.page.title()
    with opened(browser, path) as shown:  # a script that got in all the same would not run
        shown.page.evaluate(
            """() => {
                const script = document.createElement('script');
                script.textContent = 'window.hacked = 1';
                document.body.append(script);
            }"""
        )
        assert shown.messages, "the policy refuses it, and says so"
        shown.messages.clear()


def test_the_notes_lead_through_the_run_and_are_only_read(browser: Browser, tmp_path: Path) -> None:
    trace = a_trace()
    trace.note("Here it is.", step=2, words=["circle"], region=(0, 0, 0.5, 0.5))
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        notes = shown.page.locator(".dv-notes")
        expect(notes.locator("li")).to_have_count(2)  # open from the start
        expect(notes).to_contain_text("Step 3 · circle · a region of the image")
        expect(notes.get_by_role("button", name="Add a note")).to_have_count(0)
        notes.get_by_role("button", name="Start").press("Enter")
        expect(shown.page.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "2")
        notes.get_by_role("button", name="Next").press("Enter")
        expect(shown.page.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "3")
        expect(shown.page.locator(".dv")).to_contain_text("Words this region attends to")
        expect(notes.locator("[aria-current]")).to_contain_text("Here it is.")


def test_notes_are_cards_that_point_at_their_place(browser: Browser, tmp_path: Path) -> None:
    trace = a_trace()
    trace.note("Here it is.", step=2, words=["circle"], region=(0, 0, 0.5, 0.5))
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        shown.page.get_by_role("button", name="Note 2, step 3").click()
        card = shown.page.get_by_test_id("tour-card")
        expect(card).to_contain_text("Here it is.")
        expect(shown.page.get_by_test_id("slider")).to_have_attribute("aria-valuenow", "3")
        spot, image = (shown.page.locator(name).first.bounding_box() for name in (".dv-spot", ".dv-stage .dv-frame"))
        assert spot is not None
        assert image is not None
        assert abs(spot["x"] + 4 - image["x"]) < 2
        assert abs(spot["width"] - 8 - image["width"] / 2) < 2
        card.get_by_role("button", name="Back").click()
        expect(card).to_contain_text(EVIL)
        shown.page.keyboard.press("Escape")
        expect(card).to_have_count(0)


def test_the_address_names_a_step_and_a_word(browser: Browser, path: Path) -> None:
    with opened(browser, path) as shown:
        slider = shown.page.get_by_test_id("slider")
        shown.page.evaluate("() => { location.hash = '#step=2&word=circle'; }")
        expect(slider).to_have_attribute("aria-valuenow", "2")
        expect(shown.page.locator(".dv-bar-name")).to_have_text("circle")
        shown.page.evaluate("() => { location.hash = '#step=3'; }")
        expect(slider).to_have_attribute("aria-valuenow", "3")
        shown.page.reload()
        expect(slider).to_have_attribute("aria-valuenow", "3")
        del shown.requests[1:]


def test_links_beside_a_frame_move_the_run_inside_it(browser: Browser, path: Path) -> None:
    document = path.read_text(encoding="utf-8")
    links = '<p><a id="step" href="#step=2&amp;word=circle">two</a> <a id="other" href="#elsewhere">no</a></p>'
    context = browser.new_context(offline=True)
    try:
        page = context.new_page()
        page.set_content(f"{frame(document, 500)}{links}{frame(document, 500)}")
        first, second = (page.frame_locator("iframe").nth(index).get_by_test_id("slider") for index in range(2))
        expect(first).to_have_attribute("aria-valuemax", "4")
        expect(second).to_have_attribute("aria-valuenow", "4")
        page.locator("#step").click()
        expect(first).to_have_attribute("aria-valuenow", "2")
        expect(page.frame_locator("iframe").first.locator(".dv-bar-name")).to_have_text("circle")
        expect(second).to_have_attribute("aria-valuenow", "4")
        page.locator("#other").click()
        assert page.evaluate("() => location.hash") == "#elsewhere"
        expect(first).to_have_attribute("aria-valuenow", "2")
    finally:
        context.close()


def test_the_tour_is_offered_and_can_be_taken_without_a_kernel(browser: Browser, path: Path) -> None:
    with opened(browser, path) as shown:
        shown.page.get_by_role("button", name="Help: keys and gestures").click()
        expect(shown.page.locator(".dv-help")).to_contain_text("double-click")
        shown.page.get_by_test_id("start-tour").click()
        card = shown.page.get_by_test_id("tour-card")
        while (following := card.get_by_role("button", name="Next")).count():
            following.click()
        card.get_by_role("button", name="Done").click()
        expect(card).to_have_count(0)


def test_without_layers_there_is_no_button_for_them(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, dv.to_html(a_trace(), tmp_path / "run.html")) as shown:
        expect(shown.page.locator(".dv").get_by_test_id("slider")).to_be_visible()
        expect(shown.page.locator(".dv").get_by_test_id("layers")).to_have_count(0)


def test_drawers_without_content_are_not_offered(browser: Browser, tmp_path: Path) -> None:
    trace = a_trace()
    trace.notes.clear()
    with opened(browser, dv.to_html(trace, tmp_path / "run.html")) as shown:
        buttons = shown.page.locator(".dv-drawer-bar .dv-choice > button")
        expect(buttons).to_have_text(["Map", "Tables", "Export", "?"])


def test_the_notes_of_the_other_run_can_be_reached(browser: Browser, tmp_path: Path) -> None:
    shown_run = a_trace()
    shown_run.notes.clear()
    shown_run.prompt = "Another prompt"
    with opened(browser, dv.to_html([a_trace(), shown_run], tmp_path / "two.html")) as shown:
        widget = shown.page.locator(".dv")
        widget.get_by_test_id("notes").click()
        expect(widget.locator(".dv-notes")).to_contain_text("One note on another run, “Red circle, red square")
        widget.get_by_role("button", name="Show that run").click()
        expect(widget.locator(".dv-notes li")).to_have_count(1)


def test_a_static_output_shows_the_same_in_its_frame(browser: Browser, tmp_path: Path) -> None:
    bundle = StaticOutput(a_trace(), layers=False, height=700)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain", "image/png"}
    holder = tmp_path / "notebook.html"
    holder.write_text(f"<!doctype html><meta charset=utf-8><body>{bundle['text/html']}</body>", encoding="utf-8")
    with opened(browser, holder) as shown:
        frame = shown.page.locator("iframe")
        assert frame.get_attribute("sandbox") == "allow-scripts allow-downloads"
        handle = frame.element_handle()
        assert handle is not None
        inside = handle.content_frame()
        assert inside is not None
        inside.wait_for_selector(".dv [data-testid=slider]")
        scrub(inside)
        assert inside.evaluate("() => { try { return !!parent.document; } catch { return false; } }") is False
        shown.requests[:] = [url for url in shown.requests if url != "about:srcdoc"]


def test_the_frame_of_a_static_output_is_as_high_as_its_page(browser: Browser, tmp_path: Path) -> None:
    trace = a_trace()
    for number in range(6):
        trace.note(f"Look here {number}. " * 9, step=1)
    holder = tmp_path / "notebook.html"

    def write(height: int | None) -> None:
        bundle = StaticOutput(trace, layers=False, height=height)._repr_mimebundle_()
        holder.write_text(f"<!doctype html><meta charset=utf-8><body>{bundle['text/html']}</body>", encoding="utf-8")

    def inside_with_open_drawers(shown: Opened) -> Frame:
        handle = shown.page.locator("iframe").element_handle()
        assert handle is not None
        inside = handle.content_frame()
        assert inside is not None
        inside.wait_for_selector(".dv-notes li")
        inside.get_by_test_id("tables").click()
        inside.wait_for_selector(".dv-tables")
        shown.requests[:] = [url for url in shown.requests if url != "about:srcdoc"]
        return inside

    write(None)
    with opened(browser, holder) as shown:
        assert shown.page.locator("iframe").evaluate("(frame) => frame.clientHeight") > 1200
        # The holder grows the frame once the page's message has arrived, some frames later.
        inside_with_open_drawers(shown).wait_for_function("document.scrollingElement.scrollHeight <= innerHeight")
    write(500)
    with opened(browser, holder) as shown:
        inside = inside_with_open_drawers(shown)
        assert inside.evaluate("document.scrollingElement.scrollHeight > innerHeight")
        assert shown.page.locator("iframe").evaluate("(frame) => frame.clientHeight") == 500


def test_a_damaged_page_says_so(browser: Browser, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    start = source.index('id="dv-run">') + len('id="dv-run">')
    path.write_text(source[: start + 4000] + source[start + 4400 :], encoding="utf-8")
    with opened(browser, path) as shown:
        expect(shown.page.locator("main")).to_contain_text("This page is damaged")


def test_two_runs_are_compared_and_shown_in_turn(browser: Browser, tmp_path: Path) -> None:
    second = a_trace()
    second.prompt = "Another prompt"
    with opened(browser, dv.to_html([second, a_trace()], tmp_path / "two.html")) as shown:
        widget = shown.page.locator(".dv")
        expect(widget.get_by_test_id("compare")).to_have_attribute("aria-expanded", "true")
        expect(widget.locator(".dv-course")).to_contain_text("They do not diverge")
        scrub(shown.page)
        widget.get_by_test_id("runs").click()
        expect(widget.locator(".dv-drawers img")).to_have_count(2)
        shown.page.wait_for_function(
            "() => [...document.querySelectorAll('.dv-drawers img')].every((image) => image.naturalWidth > 0)"
        )
        widget.get_by_role("button", name="Show", exact=True).click()
        expect(widget.get_by_test_id("prompt-input")).to_have_value("Another prompt")
