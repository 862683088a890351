"""`Trace.attention_from`: what one position attends to, against a naive softmax over queries and keys of the run."""

from __future__ import annotations

import functools
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families import find_family
from diffvis_widget.traces import Trace
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.pipelines_dreamlite import FROM_IMAGE
from tests.tracer.recorder import Attention, recording

PROMPT = "A tiny red circle, above a blue square"
POSITIONS = [(0.0, 0.0), (0.3, 0.72), (1.0, 1.0)]
JOINT = [
    "sd3",
    "sd3-img2img",
    "sd3-inpaint",
    "flux",
    "flux-two-calls",
    "flux-img2img",
    "flux-inpaint",
    "chroma",
    "qwen",
]
JOINT += [
    "qwen-img2img",
    "aura-flow",
    "lumina2",
    "z-image",
    "z-image-img2img",
    "z-image-omni",
    "omnigen",
    "hidream",
    "flux2",
    "flux2-klein",
]
JOINT += ["cogview3", "cogview4", "ovis", "prx", "prx-pixel", "nucleus-moe", "if", "ideogram4"]
CROSS = ["sd", "refiner", "lora", "lcm", "ip-adapter", "pixart-alpha", "pixart-sigma", "hunyuan-dit", "kandinsky3"]
CASES = FAMILIES | FROM_IMAGE


@functools.cache
def traced(name: str) -> tuple[Any, dict[str, list[Attention]], Trace]:
    """The pipeline, the attention of a run without the tracer, and the trace of the same run."""
    case = CASES[name]
    pipe = case.build()
    arguments = {"prompt": PROMPT, "output_type": "np"} | case.arguments
    _, denoiser = find_family(pipe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with recording(denoiser) as calls:
            plain = pipe(**arguments, generator=torch.Generator().manual_seed(1)).images
        with Tracer(pipe) as tracer:
            images = pipe(**arguments, generator=torch.Generator().manual_seed(1)).images
    assert np.array_equal(np.asarray(plain), np.asarray(images))
    return pipe, calls, tracer.trace


def of_step(name: str, calls: list[Attention], step: int, steps: int) -> tuple[Attention, int]:
    """The attention of a step, and the row of its batch that carries the prompt."""
    attention = calls[:: len(calls) // steps][step]
    return attention, 0 if name.startswith(("z-image", "omnigen")) else len(attention.query) - 1


def token(position: tuple[float, float], grid: tuple[int, int]) -> int:
    y, x = (min(int(part * side), side - 1) for part, side in zip(position, grid, strict=True))
    return y * grid[1] + x


def word_sums(trace: Trace, shares: np.ndarray) -> np.ndarray:
    return np.array([shares[list(word.tokens)].sum() if word.tokens else np.nan for word in trace.words])


def beside(layer: str) -> str:
    """The self-attention of the block of a cross-attention layer; a block of Kandinsky 3 attends to the text twice."""
    return re.sub(r"attentions\.\d+\.attention$", "attentions.0.attention", layer.replace(".attn2", ".attn1"))


@pytest.mark.parametrize("name", JOINT)
def test_joint_attention(name: str) -> None:
    pipe, calls, trace = traced(name)
    family, _ = find_family(pipe)
    assert family.sequence_layout is not None
    length = 1 + max(position for word in trace.words for position in word.tokens)
    padding = [word.kind == "padding" for word in trace.words]
    for step in (0, len(trace.steps) - 1):
        for index, layer in enumerate(trace.layers):
            attention, row = of_step(name, calls[layer.name], step, len(trace.steps))
            keys = attention.key.shape[2]
            spans = family.sequence_layout(keys, length, layer.grid[0] * layer.grid[1])
            assert spans is not None
            shares = attention.probabilities(row).mean(axis=0)
            for position in POSITIONS:
                first = spans[1].start if family.text_queries else 0
                expected = shares[first + token(position, layer.grid)]
                image = trace.attention_from(position, step, layer=index)
                assert image.dtype == np.float32
                assert image.shape == layer.grid
                np.testing.assert_allclose(image, expected[spans[1]].reshape(layer.grid), atol=1e-5)
                words = trace.attention_from(position, step, layer=index, to="text")
                assert np.isnan(words[padding]).all()
                np.testing.assert_allclose(
                    words[np.invert(padding)], word_sums(trace, expected[spans[0]])[np.invert(padding)], atol=5e-4
                )
                live = trace.attention_rows(position, step)[index].words[np.invert(padding)]
                np.testing.assert_allclose(live, word_sums(trace, expected[spans[0]])[np.invert(padding)], atol=1e-5)


@pytest.mark.parametrize("name", CROSS)
def test_cross_attention_and_the_self_attention_beside_it(name: str) -> None:
    _, calls, trace = traced(name)
    for step in (0, len(trace.steps) - 1):
        for index, layer in enumerate(trace.layers):
            word_calls = calls[layer.name]
            if name == "ip-adapter":
                word_calls = word_calls[::2]  # each text attention is followed by the image's
            words, row = of_step(name, word_calls, step, len(trace.steps))
            images, _ = of_step(name, calls[beside(layer.name)], step, len(trace.steps))
            for position in POSITIONS:
                query = token(position, layer.grid)
                expected = images.probabilities(row).mean(axis=0)[query].reshape(layer.grid)
                image = trace.attention_from(position, step, layer=layer.name)
                np.testing.assert_allclose(image, expected, atol=1e-5)
                np.testing.assert_allclose(image.sum(), 1, atol=1e-5)
                text = word_sums(trace, words.probabilities(row).mean(axis=0)[query])
                np.testing.assert_allclose(trace.attention_from(position, step, index, "text"), text, atol=5e-4)
                np.testing.assert_allclose(trace.attention_rows(position, step)[index].words, text, atol=1e-5)


@pytest.mark.parametrize("name", ["dreamlite", "dreamlite-mobile", "dreamlite-edit", "dreamlite-mobile-edit"])
def test_an_image_beside_its_reference(name: str, tmp_path: Path) -> None:
    """Rows of tokens hold the image at the left, and the reference, or nothing, at the right."""
    _, calls, trace = traced(name)
    with_self_attention = [layer for layer in trace.layers if beside(layer.name) in calls]
    assert 0 < len(with_self_attention) < len(trace.layers)
    edits = name.endswith("edit")
    assert len(trace.references) == edits
    position = (0.3, 0.72)
    means: list[np.ndarray] = []
    for layer in with_self_attention:
        assert layer.reference_grids == ((layer.grid,) if edits else ())
        attention, row = of_step(name, calls[beside(layer.name)], 1, len(trace.steps))
        height, width = layer.grid
        y, x = divmod(token(position, layer.grid), width)
        shares = attention.probabilities(row).mean(axis=0).reshape(height, 2, width, height, 2, width)[y, 0, x]
        means.append(shares)
        image = trace.attention_from(position, 1, layer=layer.name)
        np.testing.assert_allclose(image, shares[:, 0], atol=1e-5)
        if edits:
            reference = trace.attention_from(position, 1, layer=layer.name, to="reference 0")
            np.testing.assert_allclose(reference, shares[:, 1], atol=1e-5)
            np.testing.assert_allclose(image.sum() + reference.sum(), 1, atol=1e-5)
    # all on one grid, that of the middle: the finest grid has no self-attention
    assert len({layer.grid for layer in with_self_attention}) == 1
    mean = np.mean(means, axis=0)
    np.testing.assert_allclose(trace.attention_from(position, 1), mean[:, 0], atol=1e-5)
    without = next(layer.name for layer in trace.layers if layer not in with_self_attention)
    with pytest.raises(ValueError, match=f"beside {without}: .* some blocks have no self-attention"):
        trace.attention_from(position, 1, layer=without)
    stored = trace.keep_attention([1])
    assert (stored.grid, stored.reference_grids) == (trace.layers[0].grid, trace.layers[0].reference_grids)
    opened = dv.open_trace(trace.save(tmp_path / "run.safetensors"))
    for live, stored_map in zip(trace.attention_maps(position, 1), opened.attention_maps(position, 1), strict=True):
        assert stored_map.shape == trace.layers[0].grid
        np.testing.assert_allclose(stored_map, np.kron(live, np.full((2, 2), 0.25)), atol=1e-4)


def test_several_layers_on_one_grid_are_averaged() -> None:
    *_, trace = traced("flux")
    position = (0.4, 0.6)
    parts = [trace.attention_from(position, 1, layer=index) for index in range(len(trace.layers))]
    np.testing.assert_allclose(trace.attention_from(position, 1), np.mean(parts, axis=0), atol=1e-7)
    texts = [trace.attention_from(position, 1, layer=index, to="text") for index in (0, 2)]
    np.testing.assert_allclose(
        trace.attention_from(position, 1, [0, 2], "text"), np.mean(texts, axis=0), atol=1e-7, equal_nan=True
    )


def test_a_coarser_layer_spreads_its_probability_over_the_area_of_its_tokens() -> None:
    pipe = pipelines.stable_diffusion()
    trace = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2)
    grids = [layer.grid for layer in trace.layers]
    fine, coarse = grids.index((16, 16)), grids.index((8, 8))
    parts = [trace.attention_from((0.2, 0.9), 1, layer=index) for index in (fine, coarse)]
    both = trace.attention_from((0.2, 0.9), 1, layer=[fine, coarse])
    expected = (parts[0] + np.kron(parts[1], np.full((2, 2), 0.25))) / 2
    np.testing.assert_allclose(both, expected, atol=1e-6)
    np.testing.assert_allclose(both.sum(), 1, atol=1e-5)


@pytest.mark.parametrize("slices", ["auto", 1])
def test_sliced_attention(slices: Any) -> None:
    pipe = pipelines.stable_diffusion()
    whole = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2)
    pipe.enable_attention_slicing(slices)
    sliced = dv.trace(pipe, PROMPT, seed=1, num_inference_steps=2)
    for index in range(len(whole.layers)):
        np.testing.assert_allclose(
            sliced.attention_from((0.7, 0.2), 1, layer=index),
            whole.attention_from((0.7, 0.2), 1, layer=index),
            atol=1e-4,
        )


def test_the_second_image_of_a_call_has_its_own_attention() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2, num_images_per_prompt=2, generator=torch.Generator().manual_seed(3))
    first, second = tracer.traces
    rows = [trace.attention_from((0.5, 0.5), 0, layer=0, to="text") for trace in (first, second)]
    assert np.abs(rows[0] - rows[1]).max() > 1e-4
    for trace, row in zip((first, second), rows, strict=True):
        np.testing.assert_allclose(trace.attention_rows((0.5, 0.5), 0)[0].words, row, atol=5e-4)


def test_nothing_stays_on_the_denoiser_and_the_next_image_is_the_same() -> None:
    pipe = FAMILIES["flux"].build()
    arguments = {"prompt": PROMPT, "output_type": "np"} | FAMILIES["flux"].arguments

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in pipe.transformer.modules())

    before = hooks()
    with Tracer(pipe) as tracer:
        plain = pipe(**arguments, generator=torch.Generator().manual_seed(1)).images
    state = torch.get_rng_state()
    tracer.trace.attention_from((0.5, 0.5), 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert hooks() == before
    assert np.array_equal(plain, pipe(**arguments, generator=torch.Generator().manual_seed(1)).images)


def test_another_position_of_the_step_needs_no_evaluation() -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    evaluations: list[int] = []
    handle = pipe.unet.register_forward_pre_hook(lambda *_: evaluations.append(1))
    try:
        for position in POSITIONS:
            trace.attention_from(position, 1)
        assert len(evaluations) == 1
        trace.attention_from((0.5, 0.5), 0)
        assert len(evaluations) == 2
    finally:
        handle.remove()


def test_a_trace_without_its_pipeline_still_tells_the_words(tmp_path: Path) -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    opened = dv.open_trace(trace.save(tmp_path / "run.safetensors"))
    for other in (opened, pickle.loads(pickle.dumps(trace))):
        words = other.attention_from((0.5, 0.5), 1, to="text")
        np.testing.assert_array_equal(words, trace.attention_from((0.5, 0.5), 1, to="text"))
        with pytest.raises(ValueError, match="no live pipeline"):
            other.attention_from((0.5, 0.5), 1)


def test_a_trace_kept_as_words_reads_layers_again() -> None:
    pipe: Any = dv.load()
    with Tracer(pipe, keep="words") as tracer:
        pipe("a red circle", num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    trace = tracer.trace
    y, x = (int(part * 12) for part in (0.3, 0.6))
    np.testing.assert_array_equal(trace.attention_from((0.3, 0.6), 1, to="text"), trace.heat_maps(step=1)[:, y, x])
    with Tracer(pipe, keep="layers") as tracer:
        pipe("a red circle", num_inference_steps=2, generator=torch.Generator().manual_seed(1))
    np.testing.assert_allclose(
        trace.attention_from((0.3, 0.6), 1, 2, "text"), tracer.trace.attention_from((0.3, 0.6), 1, 2, "text"), atol=5e-4
    )


def test_changed_weights_are_noticed() -> None:
    pipe = dv.load()
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    layer = pipe.unet.get_submodule(trace.layers[0].name)
    with torch.no_grad():
        layer.to_q.weight.mul_(3)
    with pytest.raises(ValueError, match=r"weights have been changed|no longer attends"):
        trace.attention_from((0.5, 0.5), 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"position": (1.2, 0)}, ValueError, "position must be a number from 0 to 1"),
        ({"position": 0.5}, TypeError, r"position must be \(y, x\)"),
        ({"step": 2}, IndexError, "step 2 is out of range"),
        ({"layer": "nothing"}, KeyError, "the layers are"),
        ({"to": "words"}, ValueError, "must be one of 'image', 'text'"),
        ({"to": "reference 0"}, ValueError, "no reference image"),
        ({"to": 3}, TypeError, "to must be a text"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _scenes().attention_from(**{"position": (0.5, 0.5), "step": 1, **arguments})


@functools.cache
def _scenes() -> Trace:
    return dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sdxl-pag", "perturbed-attention"),
        ("controlnet", "ControlNet"),
        ("sana", "linear attention"),
        ("sana-sprint", "linear attention"),
    ],
)
def test_runs_that_cannot_be_evaluated_again(name: str, message: str) -> None:
    *_, trace = traced(name)
    with pytest.raises(ValueError, match=message):
        trace.attention_from((0.5, 0.5), 1)
    assert trace.attention_from((0.5, 0.5), 1, to="text").shape == (len(trace.words),)
