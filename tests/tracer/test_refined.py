"""Refined maps: the words' maps averaged over self-attention, against the same computed token by token in float64."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

from diffvis_widget.export import drawing as figures
from diffvis_widget.export.view_options import view_of_step
from diffvis_widget.files import open_trace
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families import find_family
from diffvis_widget.tracer.refinement import MOST_KEYS, SelfAttention, refine, refines_better
from diffvis_widget.traces import Trace, TraceFileError
from diffvis_widget.traces.guided_resize import guided_resize
from diffvis_widget.traces.resize import resize
from diffvis_widget.traces.types import MapKind
from diffvis_widget.wire.packed_run import dequantise
from diffvis_widget.wire.recorded_run import record
from diffvis_widget.wire.shrink import smallest
from tests import pipelines
from tests.pipelines_dit import FAMILIES
from tests.tracer.families.test_families import build, call, per_step, prompt_row, split
from tests.tracer.recorder import Attention, recording
from tests.tracer.reference import assert_stored
from tests.traces.build import make_trace

JOINT = ("flux", "sd3", "qwen", "z-image", "z-image-omni", "omnigen", "chroma", "lumina2", "cogview4")


def refined_by_hand(attention: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(tokens, tokens) and (words, h, w), in float64, token by token."""
    values = words.reshape(len(words), -1).astype(np.float64)
    for _ in range(2):
        averaged = np.zeros_like(values)
        for token, weights in enumerate(attention):
            for other, weight in enumerate(weights):
                averaged[:, token] += weight * values[:, other]
        values = averaged
    squares = (values / values.mean(axis=1, keepdims=True)) ** 2
    return (squares / squares.mean(axis=1, keepdims=True)).reshape(words.shape)


def check(trace: Trace, calls: list[Attention], row: int, image: slice = slice(None), steps: int = 0) -> None:
    """Every step's refined maps are those of the step's own probabilities and self-attention."""
    assert trace.has_refined_maps
    for step, attention in enumerate(calls[: steps or len(calls)]):
        shares = attention.probabilities(row)[:, image, image]
        shares = (shares / shares.sum(axis=-1, keepdims=True)).mean(axis=0)
        words = [index for index, word in enumerate(trace.words) if word.tokens and word.kind != "padding"]
        expected = refined_by_hand(shares, trace.heat_maps(step)[words])
        stored = trace.records[step].refined
        assert stored is not None
        # the maps that it is made of were rounded to float16
        assert_stored(stored[words], expected, 4e-3 * expected.max())


def test_a_unet_uses_the_last_self_attention_on_its_finest_grid() -> None:
    pipe = pipelines.stable_diffusion()
    with recording(pipe.unet) as calls:
        plain = pipe(
            "a red circle", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)
        )
    with Tracer(pipe) as tracer:
        traced = pipe(
            "a red circle", num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)
        )
    assert np.array_equal(plain.images, traced.images)
    check(tracer.trace, calls["up_blocks.2.attentions.1.transformer_blocks.0.attn1"], row=1)
    means = tracer.trace.heat_maps(kind="refined")[[1, 2, 3]].mean(axis=(1, 2))
    np.testing.assert_allclose(means, 1, atol=2e-3)


@pytest.mark.parametrize("change", ["eager", "sliced", "without guidance"])
def test_other_ways_to_compute_attention(change: str) -> None:
    pipe = pipelines.stable_diffusion()
    arguments: dict[str, Any] = {"num_inference_steps": 1, "output_type": "latent"}
    if change == "without guidance":
        arguments["guidance_scale"] = 1.0
    with recording(pipe.unet) as calls:
        pipe("a red circle", **arguments, generator=torch.Generator().manual_seed(0))
    if change == "eager":
        pipe.unet.set_attn_processor(AttnProcessor())
    if change == "sliced":
        pipe.enable_attention_slicing(1)
    with Tracer(pipe, keep="words") as tracer:
        pipe("a red circle", **arguments, generator=torch.Generator().manual_seed(0))
    row = 0 if change == "without guidance" else 1
    check(tracer.trace, calls["up_blocks.2.attentions.1.transformer_blocks.0.attn1"], row)


@pytest.mark.parametrize("name", JOINT)
def test_joint_attention_uses_the_layer_at_a_third_of_its_depth(name: str) -> None:
    pipe = build(name)
    _, denoiser = find_family(pipe)
    with recording(denoiser) as calls:
        plain = call(name, pipe)
    with Tracer(pipe) as tracer:
        images = call(name, pipe)
    assert np.array_equal(plain, images)
    trace = tracer.trace
    layer = trace.layers[len(trace.layers) // 3]
    of_prompt = per_step(FAMILIES[name], calls[layer.name], len(trace.steps))
    _, image = split(name, trace, of_prompt[0])
    check(trace, of_prompt, prompt_row(name, of_prompt[0]), image, steps=2)


@pytest.mark.parametrize("name", ["pixart-sigma", "hunyuan-dit"])
def test_transformers_with_cross_attention_use_their_last_self_attention(name: str) -> None:
    pipe = build(name)
    _, denoiser = find_family(pipe)
    with recording(denoiser) as calls:
        call(name, pipe)
    with Tracer(pipe) as tracer:
        call(name, pipe)
    last = [layer for layer in calls if layer.endswith(".attn1")][-1]
    check(tracer.trace, calls[last], prompt_row(name, calls[last][0]), steps=2)


def test_each_image_of_a_batch_has_its_own() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe(["a red circle", "a star"], num_inference_steps=1, output_type="latent")
    first, second = tracer.traces
    start = torch.from_numpy(second.latents[:1])
    with Tracer(pipe) as alone:
        pipe("a star", num_inference_steps=1, output_type="latent", latents=start)
    star = second.heat_map("star", kind="refined")
    np.testing.assert_allclose(alone.trace.heat_map("star", kind="refined"), star, rtol=5e-3)
    assert not np.allclose(first.heat_maps(kind="refined")[1], second.heat_maps(kind="refined")[1])


@pytest.mark.parametrize("grid", [(34, 40), (70, 33)], ids=["34 x 40", "70 x 33"])
def test_keys_of_a_large_grid_are_pooled(grid: tuple[int, int]) -> None:
    """Each key is the mean of a square of tokens, and stands for as many as it holds."""
    generator = torch.Generator().manual_seed(0)
    height, width = grid
    query, key = (torch.randn(2, height * width, 4, generator=generator) for _ in range(2))
    words = torch.rand(3, height, width, generator=generator)
    refined = refine(words[None], SelfAttention("layer", [query], [key], None, 0.5), grid)
    assert refined.shape == (1, 1, height * width, 3)
    side = next(side for side in range(2, 9) if -(-height // side) * -(-width // side) <= MOST_KEYS)
    tokens = np.arange(height * width).reshape(grid)
    cells = [
        tokens[top : top + side, left : left + side].ravel()
        for top, left in itertools.product(range(0, height, side), range(0, width, side))
    ]
    values = words.double().numpy().reshape(3, -1)
    keys = np.stack([key.double().numpy()[:, cell].mean(axis=1) for cell in cells], axis=1)
    scores = np.exp(0.5 * np.einsum("hqc,hkc->hqk", query.double().numpy(), keys)) * [len(cell) for cell in cells]
    weights = (scores / scores.sum(axis=-1, keepdims=True)).mean(axis=0)
    for _ in range(2):
        values = np.stack([values[:, cell].mean(axis=1) for cell in cells], axis=1) @ weights.T
    squares = (values / values.mean(axis=1, keepdims=True)) ** 2
    expected = squares / squares.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(refined[0, 0].T.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 16], ids=["one row", "a row for each token"])
def test_a_mask_hides_image_tokens(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 16, 4, generator=generator) for _ in range(2))
    words = torch.rand(1, 4, 4, generator=generator)
    visible = torch.arange(16) < 12
    attention = SelfAttention("layer", [query], [key], [visible.expand(1, rows, 16)], 0.5)
    scores = np.exp(0.5 * query[0].double().numpy() @ key[0].double().numpy().T) * visible.numpy()
    expected = refined_by_hand(scores / scores.sum(axis=1, keepdims=True), words.numpy())
    np.testing.assert_allclose(refine(words[None], attention, (4, 4))[0, 0].T.reshape(1, 4, 4), expected, rtol=1e-4)


def test_the_finest_grid_up_to_32_x_32_is_preferred_and_the_later_layer() -> None:
    def layer(tokens: int) -> SelfAttention:
        empty = torch.empty(1, tokens, 1)
        return SelfAttention("layer", [empty], [empty], None, 1.0)

    assert refines_better(4096, None)
    assert refines_better(1024, layer(4096))
    assert not refines_better(4096, layer(64))
    assert refines_better(2304, layer(4096))
    assert refines_better(256, layer(256))
    assert not refines_better(64, layer(256))


def test_attention_that_hides_itself_leaves_no_refined_maps() -> None:
    trace = make_trace()
    assert not trace.has_refined_maps
    with pytest.raises(ValueError, match=r'kind="refined" is not there: the self-attention.*use kind="probability"'):
        trace.heat_map("square", kind="refined")


@pytest.fixture(scope="module")
def refined() -> Trace:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe("a red circle, a star", negative_prompt="blue", num_inference_steps=2, output_type="np")
    return tracer.trace


def test_a_file_has_them(refined: Trace, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = refined.save(tmp_path / "run.safetensors")
    back = open_trace(path)
    np.testing.assert_array_equal(back.heat_maps(kind="refined"), refined.heat_maps(kind="refined"))
    assert back.nbytes >= sum(record.refined.nbytes for record in refined.records if record.refined is not None)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    parts = load_file(path)
    parts["refined"] = parts["refined"][:, 1:]
    save_file(parts, path, metadata=metadata)
    with pytest.raises(TraceFileError, match="'refined' is float16"):
        open_trace(path)


def test_a_compact_file_has_them(refined: Trace, tmp_path: Path) -> None:
    back = open_trace(refined.save(tmp_path / "run.dvrun", compact=True))
    maps = refined.heat_maps(step=1, kind="refined")
    np.testing.assert_allclose(back.heat_maps(step=1, kind="refined"), maps, atol=float(np.nanmax(maps)) / 200)
    np.testing.assert_allclose(back.heat_maps(step=1), refined.heat_maps(step=1), atol=0.005)


def test_a_page_gets_both_kinds_and_shrinks_them(refined: Trace) -> None:
    messages = record(refined).payload.messages()
    steps = [message for message in messages if message.content["type"] == "step"]
    for message in (steps[1], [each for each in smallest(messages) if each.content["type"] == "step"][1]):
        views = len(message.content["views"])
        assert len(message.buffers) == views + 2
        for buffer, name in zip(message.buffers[views:], ("maps", "refined"), strict=True):
            shape, scales = message.content[name]["shape"], message.content[name]["scales"]
            maps = dequantise(buffer, shape, scales)
            kind: MapKind = "refined" if name == "refined" else "probability"
            expected = resize(refined.heat_maps(step=1, kind=kind), (shape[1], shape[2]))
            if shape[1] == 16:
                np.testing.assert_allclose(maps, expected, atol=float(np.nanmax(expected)) / 200)
            assert shape[1] == (16 if message is steps[1] else 2)


def test_figures_show_them_unless_another_map_is_chosen(refined: Trace) -> None:
    figure = figures.overlay_maps(refined, view_of_step(refined, 1, words=["star"]))[0]
    assert figure.name == "star, refined"
    np.testing.assert_array_equal(figure.values, refined.heat_map("star", step=1, kind="refined"))
    for options in ({"kind": "probability"}, {"layer": 0}):
        shown = figures.overlay_maps(refined, view_of_step(refined, 1, words=["star"], **options))[0]  # pyright: ignore[reportArgumentType]
        np.testing.assert_array_equal(shown.values, refined.heat_map("star", step=1, layer=options.get("layer")))
    shared = view_of_step(refined, 1, words=["star"], shared_scale=True).value_range
    typed = [index for index, word in enumerate(refined.words) if word.kind == "word"]
    every = [refined.heat_maps(step, kind="refined")[typed] for step in range(2)]
    assert shared == pytest.approx((np.min(every), np.max(every)))
    with pytest.raises(ValueError, match="leave out layer and head"):
        view_of_step(refined, 1, words=["star"], kind="refined", layer=0)


def test_several_words_are_averaged_and_sizes_resized(refined: Trace) -> None:
    both = refined.heat_map(["red", "star"], kind="refined", step=1)
    red, star = (refined.heat_map(word, kind="refined", step=1) for word in ("red", "star"))
    np.testing.assert_allclose(both, (red + star) / 2, rtol=1e-6)
    assert refined.heat_map("a", kind="refined", size=(20, 30)).shape == (20, 30)
    steps = [refined.heat_map("star", kind="refined", step=step) for step in (0, 1)]
    np.testing.assert_allclose(refined.heat_map("star", kind="refined"), np.mean(steps, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 0}, "made of the default layers and all heads"),
        ({"head": 0}, "made of the default layers and all heads"),
        ({"among": "star"}, r"among must be a list of words, such as \['circle', 'square'\], not 'star'"),
        ({"among": []}, "among must be a list of words"),
    ],
    ids=["layer", "head", "text", "nothing"],
)
def test_arguments_that_do_not_fit(refined: Trace, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refined.heat_map("red", kind="refined", **arguments)


def test_the_negative_prompt_has_none(refined: Trace) -> None:
    negative = refined.negative
    assert negative is not None
    with pytest.raises(ValueError, match="not for those of the negative prompt"):
        negative.heat_map("blue", kind="refined")


def test_words_compete_for_positions(refined: Trace) -> None:
    red, circle, star = (refined.heat_map(word, kind="refined") for word in ("red", "circle", "star"))
    share = refined.heat_map("star", kind="refined", among=["circle", "star"])
    np.testing.assert_allclose(share, star / (star + circle + 1), rtol=1e-5)
    large = refined.heat_map("star", kind="refined", among=["circle", "red"], size=(32, 32))
    np.testing.assert_allclose(
        large, resize((star / (star + circle + red + 1)).astype(np.float32), (32, 32)), rtol=1e-5
    )
    with pytest.raises(ValueError, match="among needs"):
        make_trace().heat_map("square", kind="output", among=["circle"])


def test_shares_of_probabilities_are_among_the_typed_words() -> None:
    trace = make_trace()
    square, circle, comma = (trace.heat_map(word) for word in ("square", "circle", ","))
    reds = trace.heat_map("red")
    share = trace.heat_map("square", among=["circle"])
    np.testing.assert_allclose(share, square / (square + circle + comma + reds), rtol=1e-5)
    assert 0 <= share.min() <= share.max() <= 1


def test_the_size_of_the_image_follows_its_edges(refined: Trace) -> None:
    """Each pixel takes the mean of the cells within two of it, weighted by distance and by colour."""
    heat = refined.heat_map("star", kind="refined", step=0)
    large = refined.heat_map("star", kind="refined", step=0, size="image")
    image = refined.frame("prediction", 0).astype(np.float64) / 255
    assert large.shape == image.shape[:2] == (32, 32)
    cells = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    for y, x in [(0, 0), (13, 20), (31, 7)]:
        at = (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
        total = weights = 0.0
        for row, column in np.ndindex(16, 16):
            if max(abs(row - round(at[0])), abs(column - round(at[1]))) <= 2:
                distance = (row - at[0]) ** 2 + (column - at[1]) ** 2
                colour = np.square(image[y, x] - cells[row, column]).sum()
                weight = np.exp(-distance / (2 * 0.5**2) - colour / (2 * 0.4**2))
                total, weights = total + weight * heat[row, column], weights + weight
        assert large[y, x] == pytest.approx(total / weights, rel=1e-3)
    last = guided_resize(refined.heat_map("star", kind="refined"), refined.frame("prediction", -1))
    np.testing.assert_array_equal(refined.heat_map("star", kind="refined", size="image"), last)
    with pytest.raises(ValueError, match="size must be one of 'image', not 'images'"):
        refined.heat_map("star", size="images")  # pyright: ignore[reportArgumentType]
