"""The page that paints, opened from a file with the network off: its runs are those of the notebook."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, expect

import diffvis_widget as dv
from diffvis_widget.export.static_output import frame
from diffvis_widget.traces import Trace
from diffvis_widget.traces.types import MapKind
from diffvis_widget.wire.packed_run import dequantise
from tests.browser.painting import WAIT, opened

PROMPT = "a red circle above a blue square"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dv.playground(tmp_path_factory.mktemp("pages") / "lab.html")


@pytest.fixture(scope="module")
def trace() -> Trace:
    trace = dv.trace(dv.load(), PROMPT, seed=0, num_inference_steps=6, keep="heads")
    dv.concept_scores(trace, ["circle", "blue"])
    return trace


def map_of(entry: dict[str, Any], data: bytes) -> tuple[np.ndarray, float]:
    """A map of the page, (12, 12), and the largest error of its rounding to bytes."""
    low, high = entry["scale"]
    return dequantise(data, [1, 12, 12], [entry["scale"]])[0], (high - low) / 510


def test_a_typed_prompt_is_painted_with_the_numbers_of_the_notebook(browser: Browser, lab: Path, trace: Trace) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.set_steps(6)
        shown.paint(PROMPT)
        shown.expect_status("done")
        for concept in ("circle", "blue"):
            field = shown.widget.get_by_test_id("add-concept")
            field.fill(concept)
            field.press("Enter")
        shown.page.wait_for_function(
            "() => window.received.some(({ content }) => content.type === 'scores' && content.cosine.length === 6"
            " && content.concepts.length === 2)"
        )
        shown.widget.get_by_test_id("layers").click()
        shown.widget.get_by_test_id("chip-3").click()
        expect(shown.widget.locator(".dv-layers .dv-tile").first).to_be_visible()
        messages = shown.received()
    begin = next(content for content, _ in messages if content["type"] == "run")
    assert [(word["text"], word["tokens"], word["kind"]) for word in begin["words"]] == [
        (word.text, list(word.tokens), word.kind) for word in trace.words
    ]
    expect_maps_and_image(messages, trace)
    scores = [content for content, _ in messages if content["type"] == "scores"][-1]
    assert trace.scores is not None
    assert np.abs(np.array(scores["cosine"]) - trace.scores.cosine).max() <= 5e-3
    assert np.abs(np.array(scores["null_band"]) - trace.scores.null_band).max() <= 5e-3
    assert [step is None for step in scores["emergence"]] == np.isnan(trace.scores.emergence).tolist()


def expect_maps_and_image(messages: list[tuple[dict[str, Any], list[bytes]]], trace: Trace) -> None:
    """A run's messages must hold the heat maps of every step, and the image, of a trace."""
    steps = [(content, buffers) for content, buffers in messages if content["type"] == "step"]
    assert [content["index"] for content, _ in steps] == list(range(len(trace.steps)))
    kinds: list[tuple[int, MapKind, str]] = [(-2, "probability", "maps"), (-1, "refined", "refined")]
    for content, buffers in steps:
        for place, kind, name in kinds:
            maps = dequantise(buffers[place], content[name]["shape"], content[name]["scales"])
            rounding = np.array([hi - lo for lo, hi in content[name]["scales"]])[:, None, None] / 510  # to bytes
            expected = trace.heat_maps(step=content["index"], kind=kind)
            assert (np.abs(maps - expected) <= 1e-3 * np.maximum(1, expected) + rounding).all()
        assert content["sigma"] == pytest.approx(trace.sigmas[content["index"]], rel=1e-6)
    image = next(buffers[0] for content, buffers in messages if content["type"] == "end")
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(float)
    assert np.abs(pixels - trace.image).mean() <= 2


def test_words_outside_the_prompt_have_the_maps_of_the_notebook(browser: Browser, lab: Path) -> None:
    prompt = f"{PROMPT} at sea"  # the sea competes with its objects
    concepts = ["sky", "circle", "green star", "yellow", "night"]  # the last two compete with words of the prompt
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.set_steps(4)
        shown.paint(prompt)
        shown.expect_status("done")
        shown.widget.get_by_test_id("add-word").click()
        expect(shown.widget.get_by_test_id("add-concept")).to_be_focused()
        for concept in concepts:
            shown.page.keyboard.type(concept)
            shown.page.keyboard.press("Enter")
        shown.paint(prompt)
        shown.wait_for("end", "content.run === 'page-2'")
        chips = shown.widget.locator('.dv-chip[data-kind="concept"]')
        outside = [concept for concept in concepts if concept != "circle"]
        expect(chips).to_have_text(outside)
        chips.first.get_by_role("button").click()
        expect(shown.widget.get_by_test_id("stage")).to_contain_text("sky")
        shown.widget.get_by_test_id("layers").click()
        expect(shown.widget.locator(".dv-layers .dv-tile").first).to_be_visible()
        chips.last.get_by_role("button").click()
        shown.widget.get_by_test_id("map").click()
        expect(shown.widget.get_by_test_id("about-map")).to_contain_text("share among the words that the word excludes")
        messages = [message for message in shown.received() if message[0].get("run") == "page-2"]
    trace = dv.trace(dv.load(), prompt, seed=0, num_inference_steps=4, guidance_scale=7.5, concepts=outside)
    begin = next(content for content, _ in messages if content["type"] == "run")
    assert [(word["text"], word["tokens"], word["token_texts"], word["kind"]) for word in begin["words"]] == [
        (word.text, list(word.tokens), list(word.token_texts), word.kind) for word in trace.words
    ]
    assert begin["shares"] == trace.meta["refined_shares"] == ["sea", "night"]
    expect_maps_and_image(messages, trace)


def test_a_decision_curve_by_keyboard_only_is_that_of_the_notebook(browser: Browser, lab: Path) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.press_until("prompt-input")
        keyboard = shown.page.keyboard
        keyboard.type("a red circle")
        shown.press_until('[aria-label="steps"]')
        keyboard.type("6")
        keyboard.press("Enter")
        shown.expect_status("done")
        shown.press_until("decision")
        keyboard.press("Enter")
        shown.press_until('[aria-label="Word"]')
        keyboard.type("red")
        keyboard.press("Tab")
        keyboard.type("green")
        keyboard.press("Tab")
        keyboard.press("Control+a")
        keyboard.type("2")
        keyboard.press("Enter")
        shown.wait_for("job", "content.state === 'done'")
        expect(shown.widget.get_by_test_id("decision-curve")).to_be_visible()
        expect(shown.widget.get_by_test_id("decision-film").locator("img")).to_have_count(6)
        jobs = [message for message in shown.received() if message[0]["type"] == "job"]
        shown.press_until("decision-curve")
        before = shown.widget.get_by_test_id("decision-curve").get_attribute("aria-valuenow")
        keyboard.press("ArrowLeft")
        expect(shown.widget.get_by_test_id("decision-curve")).not_to_have_attribute("aria-valuenow", str(before))
    images: list[np.ndarray] = []
    curve = dv.decision_curve(
        dv.load(), "a red circle", "red", "green", steps=6, seeds=[0, 1], guidance_scale=7.5, progress=False,
        on_image=lambda seed, _, image: images.append(image) if seed == 0 else None,
    )  # fmt: skip
    content, buffers = jobs[-1]
    assert content["switch"] == curve.switch.tolist()
    assert np.abs(np.array(content["shares"]) - curve.share).max() <= 5e-3
    assert np.abs(np.array(content["mean"]) - curve.mean).max() <= 5e-3
    assert np.abs(np.array(content["band"]) - curve.band).max() <= 5e-3
    assert content["decision"] == pytest.approx(curve.decision, abs=0.05)
    assert content["agreeing"] == curve.agreeing
    assert len(buffers) == len(images) == 7
    for buffer, image in zip(buffers, images, strict=True):
        assert np.abs(np.asarray(Image.open(io.BytesIO(buffer)).convert("RGB")).astype(float) - image).mean() <= 2


def test_df_rise_in_the_page_is_that_of_the_notebook_and_other_methods_need_it(
    browser: Browser, lab: Path, trace: Trace
) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.set_steps(6)
        shown.paint(PROMPT)
        shown.expect_status("done")
        shown.widget.get_by_test_id("methods").click()
        for method in ("df_cam", "df_lime"):
            expect(shown.widget.get_by_test_id(method)).to_contain_text("works in the notebook", timeout=WAIT)
            expect(shown.widget.get_by_test_id(method).get_by_role("button")).to_have_count(0)
        relevance = shown.widget.locator(".dv-relevance")
        expect(relevance).to_contain_text("works in the notebook")
        expect(relevance.get_by_role("button")).to_have_count(0)
        card = shown.widget.get_by_test_id("df_rise")
        card.get_by_role("button", name="Compute").click()
        expect(card.get_by_role("button", name="DF-RISE on the stage")).to_be_visible(timeout=4 * WAIT)
        content, (data,) = next(message for message in shown.received() if message[0].get("masks_used"))
    (entry,) = content["maps"]
    saliency = dv.explain.df_rise(
        trace, entry["step"], content["masks_used"], coverage="actual", tolerance=0, progress=False
    )
    values, rounding = map_of(entry, data)
    assert np.abs(values - saliency.map).max() <= 1e-3 + rounding
    assert 100 <= content["masks_used"] <= 500


def test_a_place_of_a_painted_run_shows_what_it_attends_to(browser: Browser, lab: Path, trace: Trace) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.set_steps(6)
        shown.paint(PROMPT)
        shown.expect_status("done")
        shown.widget.get_by_test_id("places").click()
        shown.widget.get_by_test_id("stage").click(position={"x": 60, "y": 100})
        view = shown.widget.get_by_test_id("places-view")
        expect(view).to_contain_text("in its last layer on the finest grid", timeout=WAIT)
        expect(view.locator("figure")).to_have_count(1)
        content, (data,) = next(message for message in shown.received() if message[0].get("place"))
    top, left, bottom, right = content["place"]
    layer = next(layer for layer in reversed(trace.layers) if layer.grid == (12, 12))
    expected = trace.attention_from(((top + bottom) / 2, (left + right) / 2), 5, layer=layer.name)
    (entry,) = content["maps"]
    values, rounding = map_of(entry, data)
    np.testing.assert_allclose(values, expected, atol=1e-3 + rounding)
    np.testing.assert_allclose(values.sum(), 1, atol=144 * rounding + 1e-3)


def test_df_rise_of_a_weighted_run_evaluates_the_weighted_network(browser: Browser, lab: Path) -> None:
    weights = {"circle": 3.0, "blue": -1.0}
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.set_steps(4)
        values = json.dumps({"weights": weights})
        shown.page.evaluate(f"() => window.engine.postMessage({{ type: 'set', values: {values} }})")
        shown.paint(PROMPT)
        shown.expect_status("done")
        shown.widget.get_by_test_id("methods").click()
        card = shown.widget.get_by_test_id("df_rise")
        card.get_by_role("button", name="Compute").click()
        expect(card.get_by_role("button", name="DF-RISE on the stage")).to_be_visible(timeout=4 * WAIT)
        content, (data,) = next(message for message in shown.received() if message[0].get("masks_used"))
        assert shown.replies("run")[-1]["weights"] == weights
    (entry,) = content["maps"]
    values, rounding = map_of(entry, data)
    pipe = dv.load()
    interventions = [dv.intervene.weight(word, factor) for word, factor in weights.items()]
    trace = dv.trace(pipe, PROMPT, seed=0, num_inference_steps=4, interventions=interventions)
    settings = {"coverage": "actual", "tolerance": 0, "progress": False}
    with pytest.raises(ValueError, match="intervention"):
        dv.explain.df_rise(trace, entry["step"], content["masks_used"], **settings)
    # The notebook has no weights where it evaluates a step again: here the values of these tokens are multiplied, and
    # the check that the network answers as it did while sampling says whether rightly.
    trace.meta = {name: value for name, value in trace.meta.items() if name != "interventions"}
    with pytest.raises(ValueError, match="no longer answers"):
        dv.explain.df_rise(trace, entry["step"], content["masks_used"], **settings)
    with weighted_values(pipe, trace, weights):
        saliency = dv.explain.df_rise(trace, entry["step"], content["masks_used"], **settings)
    assert np.abs(values - saliency.map).max() <= 1e-3 + rounding


@contextlib.contextmanager
def weighted_values(pipe: Any, trace: Trace, weights: dict[str, float]) -> Iterator[None]:
    """Multiplies the values of words in all cross-attention layers, in the rows of the batch that are the prompt's."""
    ids = pipe.tokenizer(trace.prompt, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        text = pipe.text_encoder(ids)[0]
    factors = torch.ones(32, 1)
    for word in trace.words:
        factors[list(word.tokens)] *= weights.get(word.text, 1.0)

    def multiply(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        is_prompt = (inputs[0] - text).abs().amax(dim=(1, 2)) < 1e-3
        return torch.where(is_prompt[:, None, None], output * factors, output)

    layers = [pipe.unet.get_submodule(layer.name).to_v for layer in trace.layers]
    hooks = [layer.register_forward_hook(multiply) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def test_a_decision_curve_shows_progress_stops_and_gives_way_to_a_run(browser: Browser, lab: Path) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.paint("a red circle")
        shown.expect_status("done")
        shown.widget.get_by_test_id("decision").click()
        drawer = shown.widget.locator(".dv-decision")
        drawer.get_by_label("Word").select_option("red")
        drawer.get_by_label("Replacement").fill("RED")
        drawer.get_by_test_id("compute-decision").click()
        expect(drawer).to_contain_text("to must differ from word")
        drawer.get_by_label("Replacement").fill("blue")
        drawer.get_by_role("textbox", name="seeds").fill("32")
        drawer.get_by_test_id("compute-decision").click()
        expect(drawer.get_by_role("progressbar")).not_to_have_attribute("aria-valuenow", "0", timeout=WAIT)
        drawer.get_by_test_id("stop-job").click()
        expect(drawer).to_contain_text("was stopped")
        drawer.get_by_test_id("compute-decision").click()
        shown.wait_for("job", "content.state === 'running'")
        shown.paint("a green circle")
        shown.wait_for("end", "content.run === 'page-2'")
        shown.expect_status("done")
        assert not [job for job in shown.replies("job") if job["state"] in ("done", "failed")]


def test_stop_latest_wins_and_bad_input(browser: Browser, lab: Path) -> None:
    with opened(browser, lab) as shown:
        shown.expect_status("idle")
        shown.paint("  ")
        expect(shown.widget).to_contain_text("Write a prompt first")
        shown.paint("a circle " * 100)
        shown.page.wait_for_function("() => window.received.some(({ content }) => content.type === 'step')")
        expect(shown.widget).to_contain_text("Prompt too long")
        shown.widget.get_by_test_id("stop").click()
        shown.expect_status("stopped")
        expect(shown.widget.get_by_test_id("status")).to_have_text(re.compile(r"Stopped after \d+ of 30 steps"))
        shown.paint("a green ring")
        shown.page.wait_for_function(
            "() => window.received.some(({ content }) => content.type === 'step' && content.run === 'page-2')"
        )
        shown.paint("a yellow star")
        shown.page.wait_for_function(
            "() => window.received.some(({ content }) => content.type === 'end' && content.run === 'page-2')"
        )
        shown.expect_status("done")
        states = [content["state"] for content, _ in shown.received() if content["type"] == "end"]
        assert states == ["stopped", "stopped", "done"]
        # From the second run on, the first step is shown at once: decoded exactly later.
        steps = {(content["run"], content["index"]): content for content in shown.replies("step")}
        assert [steps[f"page-{run}", 0]["exact"] for run in (1, 2, 3)] == [True, False, False]
        shown.wait_for("frame", "content.run === 'page-3' && content.index === 0 && content.view === 'prediction'")
        shown.widget.get_by_test_id("runs").click()
        expect(shown.widget.locator(".dv-runs")).to_contain_text("a green ring")
        shown.widget.get_by_test_id("decision").click()
        shown.widget.get_by_test_id("methods").click()
        expect(shown.widget.locator(".dv-methods")).to_contain_text("works in the notebook")


def test_a_recorded_run_comes_first_and_new_ones_from_it(browser: Browser, trace: Trace, tmp_path: Path) -> None:
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True)) as shown:
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "6")
        shown.expect_status("done")
        expect(shown.widget.get_by_test_id("run")).to_be_visible(timeout=WAIT)
        expect(shown.widget.locator(".dv-meters li")).to_have_count(2)
        shown.paint("a red circle above a green square")
        shown.page.wait_for_function("() => window.received.some(({ content }) => content.type === 'end')")
        shown.expect_status("done")
        shown.widget.get_by_test_id("compare").click()
        expect(shown.widget.locator(".dv-compare")).to_contain_text("blue")


def test_damaged_weights_are_one_sentence_and_the_recorded_run_works(
    browser: Browser, trace: Trace, tmp_path: Path
) -> None:
    path = dv.to_html(trace, tmp_path / "run.html", live=True)
    source = path.read_text(encoding="utf-8")
    middle = source.index('id="dv-model"') + 10_000_000
    path.write_text(source[:middle] + "AAAA" * 25 + source[middle + 100 :], encoding="utf-8")
    with opened(browser, path) as shown:
        expect(shown.widget).to_contain_text("The model in this page is damaged", timeout=WAIT)
        expect(shown.widget.get_by_test_id("run")).to_have_count(0)
        expect(shown.widget.get_by_test_id("slider")).to_have_attribute("aria-valuemax", "6")


@pytest.mark.parametrize(
    "missing", ["WebAssembly.validate = () => false", "delete window.DecompressionStream"], ids=["simd", "streams"]
)
def test_an_old_browser_gets_one_sentence_and_the_recorded_run(
    browser: Browser, trace: Trace, tmp_path: Path, missing: str
) -> None:
    with opened(browser, dv.to_html(trace, tmp_path / "run.html", live=True), missing) as shown:
        expect(shown.widget).to_contain_text("This browser is too old to paint new images")
        slider = shown.widget.get_by_test_id("slider")
        slider.focus()
        slider.press("Home")
        expect(slider).to_have_attribute("aria-valuenow", "1")


def test_it_paints_inside_a_sandboxed_frame(browser: Browser, lab: Path, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><body>{frame(lab.read_text(encoding='utf-8'), 900)}", encoding="utf-8")
    with opened(browser, path) as shown:
        inside = shown.page.frame_locator("iframe")
        status = inside.get_by_test_id("status")
        expect(status).to_have_attribute("data-status", "idle", timeout=WAIT)
        field = inside.get_by_test_id("prompt-input")
        field.fill(PROMPT)
        field.press("Enter")
        expect(status).to_have_attribute("data-status", "done", timeout=WAIT)
