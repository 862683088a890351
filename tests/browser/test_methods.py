"""The drawer "Methods" of a real widget on a tiny pipeline: maps, relevance, their waits, and how they fail."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import DPMSolverMultistepScheduler
from playwright.sync_api import Browser, Locator, Page, expect

from diffvis_widget import explain, open_trace
from diffvis_widget.traces import Saliency
from diffvis_widget.widget.widget import DiffVis
from tests import pipelines
from tests.browser.live_page import open_live

AXE = Path(__file__).parent.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
PROMPT, STEPS = "a red circle", 6
PATIENT = 60_000


@dataclass
class Shown:
    """A page, and the widget on it."""

    page: Page
    widget: Locator

    @property
    def slider(self) -> Locator:
        return self.widget.get_by_test_id("slider")


Open = Callable[..., AbstractContextManager[Shown]]


@pytest.fixture
def pipe() -> Any:
    pipe = pipelines.stable_diffusion()
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.fixture
def widget(pipe: Any) -> Iterator[Any]:
    widget = DiffVis(pipe, prompt=PROMPT, seed=7, steps=STEPS)
    assert widget.wait(60)
    yield widget
    widget.close()


@pytest.fixture
def open_page(browser: Browser) -> Open:
    @contextmanager
    def open_page(widget: DiffVis, **options: Any) -> Iterator[Shown]:
        with open_live(browser, **options) as live:
            shown = Shown(live.page, live.show(widget))
            expect(shown.slider).to_have_attribute("aria-valuemax", str(STEPS))
            yield shown
            live.leave(widget)

    return open_page


def open_methods(bare: Shown) -> None:
    bare.widget.get_by_test_id("status").hover()
    bare.widget.get_by_test_id("methods").click()
    expect(bare.widget.locator(".dv-method")).to_have_count(4)


def stage(bare: Shown) -> str:
    bare.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return bare.widget.get_by_test_id("stage").locator("canvas").evaluate("(canvas) => canvas.toDataURL()")


def a_map(method: str, step: int, size: tuple[int, ...]) -> Saliency:
    values = np.zeros(size, dtype=np.float32)
    values[: size[0] // 2] = step + 1
    return Saliency(method, step, values)


def test_a_map_is_computed_kept_and_laid_on_the_stage(widget: Any, open_page: Open) -> None:
    with open_page(widget) as bare:
        open_methods(bare)
        method = bare.widget.get_by_test_id("df_cam")
        expect(method.get_by_role("button")).to_have_text(re.compile(r"Compute DF-CAM, (under 1 s|about \d+ (s|min))"))
        plain = stage(bare)
        method.get_by_role("button").press("Enter")
        tile = method.get_by_role("button", name="DF-CAM on the stage")
        expect(tile).to_have_attribute("aria-pressed", "true", timeout=PATIENT)
        bare.slider.press("Home")  # from now on the estimate is what the map took
        expect(method.get_by_role("button")).to_have_text(re.compile(r"Compute DF-CAM, (under 1 s|about \d+ (s|min))"))
        bare.slider.press("End")
        (saliency,) = widget.trace.saliency
        assert (saliency.method, saliency.step) == ("df_cam", STEPS - 1)
        assert widget.overlay == "df_cam"
        legend = bare.widget.locator(".dv-bar")
        expect(legend.locator(".dv-bar-name")).to_have_text("DF-CAM")
        expect(bare.widget.get_by_test_id("stage").get_by_role("img")).to_have_accessible_name(
            f"Prediction at step {STEPS} of {STEPS}: {PROMPT}, with the heat map of DF-CAM"
        )
        assert stage(bare) != plain
        bare.widget.get_by_role("button", name="Shared").click()  # a scale of the words' own: no range of this map's
        expect(legend).to_have_attribute("title", re.compile("DF-CAM: .* to "))
        bare.widget.get_by_test_id("chip-3").hover()
        expect(legend.locator(".dv-bar-name")).to_have_text("circle")
        tile.press("Enter")
        expect(tile).to_have_attribute("aria-pressed", "false")
        bare.widget.get_by_test_id("status").hover()
        expect(legend).to_have_count(0)
        assert widget.overlay == "attention"


def test_maps_of_the_trace_are_there_and_lead_to_their_steps(widget: Any, open_page: Open) -> None:
    size = widget.trace.latents.shape[2:]
    widget.trace.saliency += [a_map("df_rise", 1, size), a_map("df_lime", 3, size)]
    with open_page(widget) as bare:
        open_methods(bare)
        others = bare.widget.get_by_role("toolbar", name="Maps of other steps").get_by_role("button")
        expect(others).to_have_text([re.compile("DF-RISEstep 2"), re.compile("DF-LIMEstep 4")])
        others.first.focus()
        others.first.press("ArrowRight")
        expect(others.nth(1)).to_be_focused()
        others.nth(1).press("Enter")
        expect(bare.slider).to_have_attribute("aria-valuenow", "4")
        expect(bare.widget.get_by_role("button", name="DF-LIME on the stage")).to_have_attribute("aria-pressed", "true")
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-LIME")
        bare.slider.press("ArrowRight")  # where there is no such map the words' own are shown
        expect(bare.widget.locator(".dv-bar-name")).to_have_count(0)
        bare.slider.press("ArrowLeft")
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-LIME")
        bare.widget.get_by_test_id("methods").click()  # what lies on the stage stays there
        expect(bare.widget.locator(".dv-methods")).to_have_count(0)
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-LIME")
        bare.slider.press("Escape")  # until Escape or a word removes it
        expect(bare.widget.locator(".dv-bar-name")).to_have_count(0)
        widget.overlay = "df_lime"
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-LIME")
        bare.widget.get_by_test_id("chip-3").click()
        bare.widget.get_by_test_id("status").hover()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("circle")
        expect(bare.widget.get_by_test_id("chip-3")).to_have_attribute("aria-pressed", "true")
        assert widget.overlay == "attention"


def test_a_map_under_way_says_how_far_it_is_and_stops(widget: Any, pipe: Any, open_page: Open) -> None:
    armed, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def hold(_: Any, positional: Any, named: Any) -> None:
        rows = len(named["sample"] if "sample" in named else positional[0])
        if armed.is_set() and rows > 8:  # more than what is evaluated to see how long it takes
            calls.append(rows)
            if len(calls) > 4:
                assert go_on.wait(60)

    pipe.unet.register_forward_pre_hook(hold, with_kwargs=True)
    with open_page(widget) as bare:
        open_methods(bare)
        method = bare.widget.get_by_test_id("df_rise")
        expect(method.get_by_role("button")).to_contain_text("Compute DF-RISE, ")
        armed.set()
        method.get_by_role("button").click()
        bar = method.get_by_role("progressbar", name="DF-RISE")
        expect(bar).not_to_have_attribute("aria-valuenow", "0")
        expect(method).to_contain_text(re.compile(r"\d+ % · \d+ (s|min) left"))
        expect(bare.widget.get_by_test_id("df_cam").get_by_role("button")).to_be_disabled()
        axe(bare)
        bare.slider.press("Home")
        expect(method.get_by_role("progressbar", name=f"DF-RISE of step {STEPS}")).to_be_visible()
        bare.slider.press("End")
        method.get_by_role("button", name="Stop").click()
        go_on.set()
        expect(method).to_contain_text("DF-RISE was stopped.")
        expect(method.get_by_role("button", name="Compute DF-RISE")).to_be_enabled()
    assert widget.wait(60)
    assert widget.trace.saliency == []


def test_what_python_lays_on_the_stage_is_computed_and_shown(widget: Any, open_page: Open) -> None:
    with open_page(widget) as bare:
        bare.slider.press("Home")
        widget.overlay = "df_cam"
        tile = bare.widget.get_by_role("button", name="DF-CAM on the stage")
        expect(tile).to_have_attribute("aria-pressed", "true", timeout=PATIENT)
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-CAM")
        assert [(saliency.method, saliency.step) for saliency in widget.trace.saliency] == [("df_cam", 0)]
        bare.slider.press("End")  # a step that nobody asked for is not computed
        expect(bare.widget.get_by_role("button", name="Compute DF-CAM")).to_be_enabled()
        widget.overlay = "attention"
        bare.slider.press("Home")
        expect(tile).to_have_attribute("aria-pressed", "false")
        expect(bare.widget.locator(".dv-bar")).to_have_count(0)


def test_a_layer_takes_the_place_of_a_method(widget: Any, open_page: Open) -> None:
    widget.trace.saliency.append(a_map("df_rise", STEPS - 1, widget.trace.latents.shape[2:]))
    with open_page(widget) as bare:
        open_methods(bare)
        bare.widget.get_by_role("button", name="DF-RISE on the stage").click()
        bare.widget.get_by_test_id("chip-3").click()
        bare.widget.get_by_test_id("layers").click()
        bare.widget.locator(".dv-layers .dv-tile").first.click()
        bare.widget.get_by_test_id("status").hover()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text(re.compile("circle, .+"))
        assert widget.overlay == "attention"
        bare.widget.get_by_role("button", name="DF-RISE on the stage").click()
        expect(bare.widget.locator(".dv-bar-name")).to_have_text("DF-RISE")


def test_a_run_from_a_file_has_its_maps_and_says_why_it_gets_no_more(
    widget: Any, pipe: Any, open_page: Open, tmp_path: Path
) -> None:
    widget.trace.saliency.append(a_map("df_cam", STEPS - 1, widget.trace.latents.shape[2:]))
    relevance = explain.relevance_of(pipe, widget.trace, progress=False)
    widget.trace.relevance.append(relevance.stored)
    widget.trace.save(tmp_path / "run.safetensors")
    recorded = DiffVis(open_trace(tmp_path / "run.safetensors"))
    try:
        assert recorded.wait(60)
        with open_page(recorded) as bare:
            open_methods(bare)
            expect(bare.widget.locator(".dv-methods > .dv-foot")).to_contain_text("opened from a file")
            expect(bare.widget.get_by_role("button", name="DF-CAM on the stage")).to_be_visible()
            scores = [f"{score:.1f}" for score in relevance.scores[np.isfinite(relevance.scores)]]
            expect(bare.widget.locator(".dv-scores td")).to_have_text(scores)
            expect(bare.widget.locator(".dv-do")).to_have_count(0)
    finally:
        recorded.close()


def test_relevance_is_drawn_linked_and_compared(widget: Any, pipe: Any, open_page: Open) -> None:
    with open_page(widget) as bare:
        open_methods(bare)
        bare.widget.get_by_role("button", name="Compute relevance").press("Enter")
        chart = bare.widget.get_by_role("slider", name="Step, on the curves of relevance")
        expect(chart.locator("path")).to_have_count(3, timeout=PATIENT)
        expected = explain.relevance_of(pipe, widget.trace, progress=False)
        typed = [index for index, word in enumerate(widget.trace.words) if word.kind == "word"]
        table = bare.widget.locator(".dv-scores tbody tr")
        expect(table.locator("td")).to_have_text([f"{score:.1f}" for score in expected.scores[typed]])
        box = chart.bounding_box()
        assert box is not None
        chart.click(position={"x": box["width"] * 1.5 / STEPS, "y": 40})
        expect(bare.slider).to_have_attribute("aria-valuenow", "2")
        chart.focus()
        chart.press("ArrowRight")
        expect(bare.slider).to_have_attribute("aria-valuenow", "3")
        most = widget.trace.words[typed[int(expected.raw[2, typed].argmax())]].text
        expect(chart).to_have_attribute("aria-valuetext", f"Step 3: {most} is attended to most")
        legend = table.get_by_role("button", name="circle")
        legend.press("Enter")
        expect(legend).to_have_attribute("aria-pressed", "true")
        expect(bare.widget.get_by_test_id("chip-3")).to_have_attribute("aria-pressed", "true")
        expect(chart.locator("path[data-strong]")).to_have_count(1)
        bare.widget.get_by_role("button", name="Raw").click()
        expect(bare.widget.locator(".dv-schemes figcaption")).to_contain_text("uniform0 to ")
        bare.widget.get_by_role("button", name="Compare uniform, early and late").click()
        expect(bare.widget.locator(".dv-curves")).to_have_count(3, timeout=PATIENT)
        expect(bare.widget.locator(".dv-schemes figcaption")).to_have_text(
            [re.compile(f"^{name}") for name in ("uniform, this run", "early", "late")]
        )
        expect(bare.widget.locator(".dv-scores thead th")).to_have_text(["Word", "uniform", "early", "late"])
        expect(bare.widget.get_by_role("progressbar")).to_have_count(0)
        run = {"num_inference_steps": STEPS, "seed": 7, "guidance_scale": 7.5, "schedule": "late"}
        late = explain.relevance(pipe, PROMPT, progress=False, **run)
        expect(table.locator("td:last-child")).to_have_text([f"{score:.1f}" for score in late.scores[typed]])


def axe(bare: Shown) -> None:
    bare.page.add_script_tag(path=AXE)
    violations = bare.page.evaluate(
        """async () => (await axe.run('.dv')).violations.map(
            (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)"""
    )
    assert not violations, violations


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(widget: Any, open_page: Open, theme: str) -> None:
    size = widget.trace.latents.shape[2:]
    widget.trace.saliency += [a_map("df_rise", STEPS - 1, size), a_map("df_lime", 3, size)]
    with open_page(widget, theme=theme) as bare:
        open_methods(bare)
        bare.widget.get_by_role("button", name="DF-RISE on the stage").click()
        bare.widget.get_by_role("button", name="Compute relevance").click()
        bare.widget.get_by_role("button", name="Compare uniform, early and late").click(timeout=PATIENT)
        expect(bare.widget.locator(".dv-curves")).to_have_count(3, timeout=PATIENT)
        axe(bare)
        bare.widget.get_by_test_id("chip-3").click()
        axe(bare)
