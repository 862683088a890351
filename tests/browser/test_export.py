"""The drawer Export, with a real run of the built-in model: every kind of file is saved by the browser and opened."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

import diffvis_widget as dv
from diffvis_widget.export.offers import FILE_KINDS
from diffvis_widget.widget.widget import DiffVis
from tests.browser.bare import Bare, a_run, open_bare
from tests.browser.live_page import LivePage, open_live
from tests.browser.painting import opened as opened_live
from tests.browser.test_bare import AXE
from tests.browser.test_offline import opened

PROMPT, STEPS, STEP = "a red circle, above a blue square", 6, 4
STEM = "a-red-circle-above-a-blue-square"


@pytest.fixture(scope="module")
def widget() -> Iterator[DiffVis]:
    pipe = dv.load()
    widget = DiffVis(pipe, prompt=PROMPT, concepts=["circle", "=red"], steps=STEPS, seed=7, weights={"red": 1.5})
    assert len(widget.trace.steps) == STEPS
    yield widget
    widget.close()
    widget._session.join(60)


@pytest.fixture
def shown(browser: Browser, widget: DiffVis) -> Iterator[tuple[LivePage, Locator]]:
    """The widget at step 5 with two words chosen, the second of which comes twice, and the drawer open."""
    widget.step, widget.selected, widget.overlay = STEP, [words().index("circle"), words().index("a")], "attention"
    with open_live(browser) as live:
        view = live.show(widget)
        view.get_by_test_id("export").click()
        expect(view.get_by_test_id("export-png")).to_be_visible()
        expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuenow", str(STEP + 1))
        yield live, view
        live.leave(widget)


def words() -> list[str]:
    return ["<|startoftext|>", *PROMPT.replace(",", " ,").split()]


def saved(page: Page, view: Locator, kind: str, folder: Path) -> Path:
    with page.expect_download(timeout=90_000) as waiting:
        view.get_by_test_id(f"export-{kind}").click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    expect(view.get_by_test_id("export-state")).to_contain_text(f"Saved: {path.name}")
    return path


def ran(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.chdir(folder)
    exec(compile(code, "copied", "exec"), {})
    return (folder / "view.png").read_bytes()


def python(view: Locator) -> str:
    field = view.get_by_role("textbox", name="The Python code for this")
    expect(field).not_to_have_attribute("aria-busy", "true")
    return field.input_value()


def test_the_copied_python_makes_the_same_figure(
    shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, view = shown
    opacity = view.get_by_role("slider", name="Opacity of the heat maps")
    opacity.press("ArrowLeft")
    path = saved(live.page, view, "png", tmp_path)
    assert path.name == f"{STEM}-step-5.png"
    view.get_by_test_id("export-python").click()
    expect(view.get_by_text("Copied", exact=True)).to_be_visible()
    code = live.page.evaluate("() => navigator.clipboard.readText()")
    assert code == python(view)
    assert ran(code, tmp_path, monkeypatch) == path.read_bytes()
    view_options = {"step": STEP, "words": ["circle", words().index("a")], "opacity": 0.6}
    assert code == dv.export.code(widget.trace, **view_options)
    assert "interventions=[dv.intervene.weight('red', 1.5)]" in code


def test_the_python_follows_what_is_looked_at(
    shown: tuple[LivePage, Locator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, view = shown
    view.get_by_test_id(f"chip-{words().index('square')}").click()
    view.get_by_test_id("slider").press("ArrowLeft")
    view.get_by_test_id("layers").click()
    view.locator(".dv-layers .dv-tile").nth(2).click()
    view.get_by_role("button", name="Noisy").click()
    expect(view.get_by_role("textbox", name="The Python code for this view")).to_have_value(
        re.compile(r"step=3, words=\['square'\], view='latents', layer='down_.*', head=2\)")
    )
    path = saved(live.page, view, "png", tmp_path)
    assert ran(python(view), tmp_path, monkeypatch) == path.read_bytes()


def mark(view: Locator) -> None:
    """Contour lines, one scale for all, and a place of several cells."""
    view.get_by_role("button", name="Contour lines").click()
    view.get_by_role("button", name="Shared").click()
    image_element = view.get_by_role("application", name=re.compile("^Image"))
    image_element.focus()
    for key in ("Enter", "ArrowLeft", "Shift+ArrowDown", "Shift+ArrowRight"):
        image_element.press(key)


def test_contours_scale_and_place_are_in_every_file(
    shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, view = shown
    mark(view)
    path = saved(live.page, view, "png", tmp_path)
    code = python(view)
    match = re.search(r"contours=False, shared_scale=True, region=\[([\d., ]+)\]\)", code)
    assert match is not None, code
    rows, columns = widget.trace.heat_map("circle", step=0).shape
    region = [float(edge) for edge in match[1].split(", ")]
    cells = [int(edge * count) for edge, count in zip(region, (columns, rows) * 2, strict=True)]
    assert cells == [columns // 2 - 1, rows // 2, columns // 2, rows // 2 + 1]
    assert ran(code, tmp_path, monkeypatch) == path.read_bytes()
    view_options = {"words": ["circle", words().index("a")], "contours": False, "shared_scale": True, "region": region}
    assert code == dv.export.code(widget.trace, step=STEP, **view_options)
    for kind, make in (
        ("filmstrip", dv.export.filmstrip),
        ("webp", dv.export.webp),
        ("gif", dv.export.gif),
        ("mp4", dv.export.mp4),
    ):
        assert saved(live.page, view, kind, tmp_path).read_bytes() == make(widget.trace, **view_options), kind


def test_a_methods_map_is_in_every_file_and_in_the_python(
    browser: Browser, widget: DiffVis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DiffVis(widget._session.pipe, prompt="a red circle", steps=3, seed=1)
    trace = other.trace
    dv.explain.overlay(trace, 1, "df_cam")
    other.step, other.overlay = 1, "df_cam"
    with open_live(browser) as live:
        view = live.show(other)
        view.get_by_test_id("export").click()
        code = view.get_by_role("textbox", name="The Python code for this view")
        view.get_by_test_id("methods").click()  # which asks for the run's maps
        laid = re.compile(r"dv.explain.overlay\(trace, 1, 'df_cam'\)\n.*step=1, saliency='df_cam'\)")
        expect(code).to_have_value(laid)
        export = view.locator(".dv-export")
        expect(export).to_contain_text("steps without a DF-CAM map show only the image")
        path = saved(live.page, view, "png", tmp_path)
        assert path.read_bytes() == dv.export.png(trace, step=1, saliency=trace.saliency[0])
        assert ran(python(view), tmp_path, monkeypatch) == path.read_bytes()
        mark(view)
        path = saved(live.page, view, "png", tmp_path)
        expect(code).to_have_value(re.compile("contours=False, shared_scale=True, region="))
        assert ran(python(view), tmp_path, monkeypatch) == path.read_bytes()
        view.get_by_test_id("slider").press("Home")  # a step without a map: the film is the same, the figure plain
        expect(code).to_have_value(re.compile(r"step=0, contours=False"))
        path = saved(live.page, view, "png", tmp_path)
        assert ran(python(view), tmp_path, monkeypatch) == path.read_bytes()
        (region,) = re.findall(r"region=(\[.*\])", python(view))
        place = [float(edge) for edge in region[1:-1].split(", ")]
        moving = {"contours": False, "shared_scale": True, "region": place}
        strip, film = (saved(live.page, view, kind, tmp_path).read_bytes() for kind in ("filmstrip", "webp"))
        assert strip == dv.export.filmstrip(trace, saliency="df_cam", **moving)
        assert film == dv.export.webp(trace, saliency="df_cam", **moving)
        view.get_by_test_id("chip-3").click()  # where words lie on the stage, they are in the film
        expect(export).not_to_contain_text("steps without a DF-CAM map")
        assert saved(live.page, view, "filmstrip", tmp_path).read_bytes() == dv.export.filmstrip(
            trace, words=["circle"], **moving
        )
        live.close(other)


def test_images_and_animations_open(shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path) -> None:
    live, view = shown
    for kind, name, form, frames in (
        ("filmstrip", "filmstrip.png", "PNG", 1),
        ("webp", "steps.webp", "WEBP", STEPS),
        ("gif", "steps.gif", "GIF", STEPS),
    ):
        path = saved(live.page, view, kind, tmp_path)
        assert path.name == f"{STEM}-{name}"
        with Image.open(path) as image:
            image.load()
            assert (image.format, getattr(image, "n_frames", 1)) == (form, frames)
    assert saved(live.page, view, "mp4", tmp_path).read_bytes()[4:8] == b"ftyp"
    chosen = ["circle", words().index("a")]
    assert (tmp_path / f"{STEM}-steps.webp").read_bytes() == dv.export.webp(widget.trace, words=chosen)


def test_the_stage_is_saved_as_it_is_on_the_screen(shown: tuple[LivePage, Locator], tmp_path: Path) -> None:
    live, view = shown
    path = saved(live.page, view, "stage", tmp_path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    canvas = view.get_by_test_id("stage").locator("canvas")
    pixels_shown = canvas.evaluate(
        """(canvas) => [canvas.width, canvas.height,
            ...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]"""
    )
    assert pixels.shape[:2] == (pixels_shown[1], pixels_shown[0])
    assert pixels[pixels_shown[1] // 2, pixels_shown[0] // 2].tolist() == pixels_shown[2:5]


def test_the_stage_is_saved_without_its_words_too(browser: Browser, tmp_path: Path) -> None:
    def pixels(bare: Bare, kind: str) -> np.ndarray:
        with Image.open(saved(bare.page, bare.widget, kind, tmp_path)) as image:
            return np.asarray(image.convert("RGB"))

    with open_bare(browser, a_run("a red circle")) as bare:
        bare.widget.get_by_test_id("export").click()
        bare.page.mouse.move(0, 0)
        with_words, plain = pixels(bare, "stage"), pixels(bare, "bare")
        assert (with_words != plain).any()
        # The words are on the stage again.
        np.testing.assert_array_equal(pixels(bare, "stage"), with_words)
        bare.widget.get_by_role("button", name="Words on the image").click()
        expect(bare.widget.get_by_test_id("export-bare")).to_have_count(0)
        bare.page.mouse.move(0, 0)
        np.testing.assert_array_equal(pixels(bare, "stage"), plain)


def test_the_scores_are_those_of_python(shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path) -> None:
    live, view = shown
    path = saved(live.page, view, "csv", tmp_path)
    with open(path, newline="", encoding="utf-8") as file:
        page = list(csv.reader(file))
    kernel = list(csv.reader(io.StringIO(dv.export.csv(widget.trace).decode(), newline="")))
    assert page[0] == kernel[0]
    assert "'=red cosine" in page[0]
    np.testing.assert_allclose(np.array(page[1:], dtype=float), np.array(kernel[1:], dtype=float), atol=1e-5)


def test_the_run_is_saved_whole_compact_and_as_a_page(
    browser: Browser, shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path
) -> None:
    live, view = shown
    whole = dv.open_trace(saved(live.page, view, "trace", tmp_path))
    np.testing.assert_array_equal(whole.latents, widget.trace.latents)
    np.testing.assert_array_equal(whole.frames("prediction"), widget.trace.frames("prediction"))
    compact = dv.open_trace(saved(live.page, view, "compact", tmp_path))
    assert compact.is_compact
    assert compact.scores is not None
    page = saved(live.page, view, "html", tmp_path)
    with opened(browser, page) as offline:
        drawer = offline.page.locator(".dv")
        drawer.get_by_test_id("slider").press("Home")
        expect(drawer.get_by_test_id("stage").locator("canvas")).to_have_attribute(
            "aria-label", re.compile(f"step 1 of {STEPS}")
        )
        drawer.get_by_test_id("export").click()
        expect(drawer.locator(".dv-export .dv-quiet")).to_have_text(
            ["Stage", "Stage without words", "Scores", "Copy the Python code for this run"]
        )
        assert saved(offline.page, drawer, "stage", tmp_path).name.startswith(STEM)
        assert saved(offline.page, drawer, "csv", tmp_path).read_bytes().startswith(b"step,timestep")
        assert "dv.intervene.weight('red', 1.5)" in python(drawer)


def test_a_page_that_paints_is_saved_and_paints(
    browser: Browser, shown: tuple[LivePage, Locator], widget: DiffVis, tmp_path: Path
) -> None:
    live, view = shown
    path = saved(live.page, view, "live", tmp_path)
    assert path.name == f"{STEM}-page-that-paints.html"
    assert path.stat().st_size < 28e6
    with opened_live(browser, path) as page:
        page.expect_status("done")
        expect(page.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", str(STEPS))
        expect(page.widget.get_by_test_id("run")).to_be_enabled(timeout=60_000)
        page.paint("a green star")
        page.page.wait_for_function("() => window.received.some(({ content }) => content.type === 'end')")
        page.expect_status("done")
        expect(page.widget.get_by_test_id("chip-2")).to_contain_text("green")


def test_a_refused_clipboard_leaves_the_text_selected(shown: tuple[LivePage, Locator]) -> None:
    live, view = shown
    live.page.evaluate(
        """() => {
            navigator.clipboard.writeText = () => Promise.reject(new DOMException('no', 'NotAllowedError'));
            document.execCommand = () => false;
        }"""
    )
    view.get_by_test_id("export-python").press("Enter")
    expect(view.get_by_text("Selected: copy it with")).to_be_visible()
    assert live.page.evaluate("() => document.activeElement.selectionEnd") == len(python(view))
    live.page.keyboard.press("ArrowLeft")  # moves in the text, not along the steps
    expect(view.get_by_test_id("slider")).to_have_attribute("aria-valuenow", str(STEP + 1))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_at_work_and_when_it_fails(browser: Browser, theme: str) -> None:
    with open_bare(browser, a_run(), theme=theme, concepts=["circle", "red"]) as bare:
        bare.page.evaluate(
            """(told) => {
                window.answers.exports = window.answers.source_code = [told, []];
                window.answers.job = [{ state: 'running', progress: 0.4, seconds_left: 3.2, error: '' }, []];
            }""",
            {"kinds": list(FILE_KINDS), "name": "run", "python": "trace = ...\n", "file": "run.safetensors"},
        )
        bare.page.add_script_tag(path=AXE)
        bare.widget.get_by_test_id("export").click()
        expect(bare.widget.locator(".dv-export textarea")).not_to_have_css("color", "rgba(0, 0, 0, 0)")
        state = bare.widget.get_by_test_id("export-state")
        for kind in ("webp", ""):
            if kind:
                bare.widget.get_by_test_id(f"export-{kind}").press("Enter")
                expect(state).to_contain_text("40 % · 4 s left")
                expect(bare.widget.get_by_test_id("export-gif")).to_be_disabled()
            else:
                failed = {"state": "failed", "progress": 0, "seconds_left": None, "error": "no <b>room</b>"}
                bare.page.evaluate("(failed) => { window.answers.job = [failed, []]; }", failed)
                expect(state).to_have_text("The file could not be created. no <b>room</b>")
            violations = bare.page.evaluate(
                """async () => (await axe.run('.dv')).violations.map(
                    (v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`)"""
            )
            assert not violations, violations


def test_stop_ends_it(browser: Browser) -> None:
    with open_bare(browser, a_run()) as bare:
        bare.page.evaluate(
            """(told) => {
                window.answers.exports = window.answers.source_code = [told, []];
                window.answers.job = [{ state: 'waiting', progress: 0, seconds_left: null, error: '' }, []];
            }""",
            {"kinds": ["gif"], "name": "run", "python": None, "file": None},
        )
        bare.widget.get_by_test_id("export").click()
        bare.widget.get_by_test_id("export-gif").click()
        expect(bare.widget.get_by_test_id("export-state")).to_contain_text("Waiting until the model is free")
        bare.widget.get_by_role("button", name="Stop", exact=True).last.click()
        expect(bare.widget.get_by_test_id("export-state")).to_have_text("Stopped")
        request = bare.sent("job")[0]
        assert bare.sent("cancel")[0]["task"] == request["task"]
        assert request["task"]["words"] == []
        assert math.isclose(request["task"]["opacity"], 0.65)
        assert bare.widget.locator(".dv-export textarea").count() == 0
