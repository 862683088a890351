"""Each family that makes videos, built small: the video unchanged, the maps of every frame exact, the words right."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import diffvis_widget as dv
from diffvis_widget.tracer.families import denoisers_of, find_family
from diffvis_widget.traces import Trace
from tests import pipelines_video
from tests.pipelines_video_frames import FRAME_VIDEOS, FRAMES
from tests.pipelines_video_joint import JOINT_VIDEOS
from tests.pipelines_video_more import MORE_VIDEOS
from tests.pipelines_video_rest import REST_VIDEOS
from tests.tracer.recorder import Attention, recording
from tests.tracer.reference import assert_stored
from tests.tracer.test_transparency import snapshot

# Mochi asks for an autocast that a CPU does not have
pytestmark = pytest.mark.filterwarnings(
    "ignore:In CPU autocast", "ignore:User provided device_type", "ignore:torch.meshgrid"
)
VIDEOS = pipelines_video.VIDEOS | JOINT_VIDEOS | MORE_VIDEOS | REST_VIDEOS | FRAME_VIDEOS
# the text goes through blocks of its own before it meets the image
POOLED = (
    "mochi",
    *[name for name in VIDEOS if name.startswith("kandinsky")],
)  # the mean of the text, or blocks, change every key a little
REFINED = [name for name in VIDEOS if name.startswith(("hunyuan", "skyreels1"))]
JOINT = [name for name in VIDEOS if name.startswith(("cogvideox", "mochi", "easyanimate", "motif", *REFINED))]
PROMPT = "A tiny red circle, above a blue square"
TYPED = ["A", "tiny", "red", "circle", ",", "above", "a", "blue", "square"]


@functools.cache
def build(name: str) -> Any:
    return VIDEOS[name].build()


def call(name: str, **more: Any) -> np.ndarray:
    arguments = {"prompt": PROMPT, "output_type": "np"} | VIDEOS[name].arguments | more
    torch.manual_seed(0)  # SparseCtrl draws from the default generator
    return np.asarray(build(name)(**arguments, generator=torch.Generator().manual_seed(1)).frames)


def trace_of(name: str, keep: Any = "layers", **more: Any) -> tuple[np.ndarray, Trace]:
    with dv.Tracer(build(name), keep=keep) as tracer:
        video = call(name, **more)
    return video, tracer.trace


def made(trace: Trace) -> np.ndarray:
    """The video of a trace."""
    assert trace.video is not None
    return trace.video


def seen_calls(name: str, **more: Any) -> list[dict[str, list[Attention]]]:
    """The attention of each denoiser of the pipeline in a run."""
    pipe = build(name)
    evaluations: list[dict[str, list[Attention]]] = []
    for denoiser in denoisers_of(pipe, find_family(pipe)[0]):
        with recording(denoiser) as calls:
            call(name, **more)
        evaluations.append(calls)
    return evaluations


def by_video(attention: Attention) -> Attention:
    """Attention in which each frame is a row of the batch, as attention from all frames to a text that is the same."""
    rows = attention.query.unflatten(0, (-1, FRAMES))
    for part in (attention.key, attention.value):
        texts = part.unflatten(0, (-1, FRAMES))
        assert torch.equal(texts, texts[:, :1].expand_as(texts))
    query = rows.transpose(1, 2).flatten(2, 3)
    return replace(attention, query=query, key=attention.key[::FRAMES], value=attention.value[::FRAMES])


def conditional(name: str, seen: list[dict[str, list[Attention]]], layer: str) -> list[tuple[Attention, int]]:
    """The evaluations of the prompt in order of the steps, with the row that carries it."""
    attentions = [attention for calls in seen for attention in calls.get(layer, [])]
    longest = max(attention.key.shape[2] for attention in attentions)  # an image's tokens have keys of their own
    attentions = [attention for attention in attentions if attention.key.shape[2] == longest]
    if name.startswith("ltx2"):  # evaluates the prompt again, without its sound, after both branches in one batch
        attentions = [attention for attention in attentions if len(attention.query) == 2]
    if name in FRAME_VIDEOS:
        attentions = [by_video(attention) for attention in attentions]
    if name == "animatediff-perturbed":  # without the prompt, with it, with it and without self-attention
        return [(attention, 1) for attention in attentions]
    if VIDEOS[name].guided == "two calls":
        return [(attention, 0) for attention in attentions[::2]]
    return [(attention, len(attention.query) - 1) for attention in attentions]


def split(name: str, attention: Attention) -> tuple[slice, slice]:
    """Where the text lies in the keys, and the video in the queries; worked out by hand for each pipeline."""
    queries, keys = attention.query.shape[2], attention.key.shape[2]
    if name.startswith("cogvideox"):
        return slice(0, 24), slice(24, queries)
    if name.startswith("easyanimate"):  # three frames of 2 x 3 tokens, behind the text
        return slice(0, keys - 18), slice(keys - 18, queries)
    if name == "motif-image":  # four tokens of the image before 24 of the text
        return slice(keys - 24, keys), slice(0, 18)
    if name == "hunyuan15-image":  # three frames of 2 x 2 tokens, and four tokens of the image before the text
        return slice(16, keys), slice(0, 12)
    if name in JOINT:  # three frames of 2 x 3 tokens
        return slice(18, keys), slice(0, 18)
    if name == "ltx-conditions":  # four frames, of which the one that is given on frame 8 stands first
        return slice(0, keys), slice(queries // 4, queries)
    if name == "wan-vace-reference":  # four frames, of which the first is the reference image
        return slice(0, keys), slice(queries // 4, queries)
    if name == "kandinsky6-image":  # four frames, of which the last is the image
        return slice(0, keys), slice(0, queries // 4 * 3)
    if name in ("ltx2-in-context", "ltx2-hdr"):  # a reference video of as many tokens stands behind
        return slice(0, keys), slice(0, queries // 2)
    if name == "i2vgen":  # 64 tokens of the image behind 77 of the text, and four more
        return slice(0, 77), slice(0, queries)
    # with conditions, LTX-2 has it last
    return slice(0, keys), slice(0, queries // 4 * 3 if name == "ltx2-conditions" else queries)


def by_frame(name: str, values: np.ndarray, frames: int, grid: tuple[int, int]) -> np.ndarray:
    """Values of the video's tokens (..., tokens) as (..., F, h, w)."""
    tokens = values.reshape(*values.shape[:-1], -1, *grid)
    if name.startswith("cogvideox15"):  # a token covers two of four latent frames, of which the first is padding
        return tokens[..., [0, 1, 1], :, :]
    assert tokens.shape[-3] == frames
    return tokens


@pytest.mark.parametrize("name", VIDEOS)
def test_the_video_is_the_same_and_the_maps_of_each_frame_are_exact(name: str) -> None:
    pipe = build(name)
    seen = seen_calls(name)
    plain = call(name)
    before = snapshot(pipe)
    video, trace = trace_of(name, keep="heads")
    assert np.array_equal(plain, video)
    assert snapshot(pipe) == before
    for denoiser in denoisers_of(pipe, find_family(pipe)[0]):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    frames = trace.frame_count
    assert frames == trace.latents.shape[2] > 1
    assert trace.layers
    for index, layer in enumerate(trace.layers):
        evaluations = conditional(name, seen, layer.name)
        assert len(evaluations) == len(trace.steps)
        for step, (attention, row) in enumerate(evaluations):
            shares = attention.probabilities(row)
            stored = trace.records[step].maps[index]
            assert stored.shape == (layer.heads, len(trace.words), frames, *layer.grid)
            text, image = split(name, attention)
            for place, word in enumerate(trace.words):
                if word.kind == "padding" and layer.kind == "joint":
                    assert np.isnan(stored[:, place]).all()
                    continue
                columns = shares[:, image, text][:, :, list(word.tokens)].sum(axis=-1)
                assert_stored(stored[:, place], by_frame(name, columns, frames, layer.grid), 1e-5)


@pytest.mark.parametrize("name", JOINT)
def test_scores_in_output_space_are_exact(name: str) -> None:
    seen, plain = seen_calls(name), call(name)
    with dv.Tracer(build(name), keep="heads", output=True) as tracer:
        assert np.array_equal(plain, call(name))
    trace = tracer.trace
    for index, layer in enumerate(trace.layers):
        for step, (attention, row) in enumerate(conditional(name, seen, layer.name)):
            outputs, (text, image) = trace.records[step].outputs, split(name, attention)
            assert outputs is not None
            expected = attention.outputs(row)
            for place, word in enumerate(trace.words):
                if word.kind == "padding":
                    assert np.isnan(outputs[index][:, place]).all()
                    continue
                vector = expected[:, [text.start + token for token in word.tokens]].mean(axis=1)
                scores = np.einsum("hpc,hc->hp", expected[:, image], vector) / vector.shape[-1]
                expected_scores = by_frame(name, scores, trace.frame_count, layer.grid)
                assert_stored(outputs[index][:, place], expected_scores, 1e-5)


@pytest.mark.parametrize("name", VIDEOS)
def test_arrays_words_and_frames(name: str) -> None:
    video, trace = trace_of(name)
    frames, steps = trace.frame_count, len(trace.steps)
    assert "".join(word.text for word in trace.words if word.kind == "word") == "".join(TYPED)
    assert trace.latents.shape[0] == steps + 1
    assert trace.predictions.shape == trace.latents[1:].shape
    if VIDEOS[name].guided in ("embedded", "none"):
        assert trace.guidance is None
    else:
        assert trace.guidance is not None
        assert trace.guidance.shape == (steps, frames, *trace.latents.shape[3:])
    assert trace.video is not None
    # high dynamic range goes beyond 1
    assert np.array_equal(trace.video, np.round(np.clip(video[0], 0, 1) * 255).astype(np.uint8))
    assert np.array_equal(trace.image, trace.video[0])
    assert [frame for k in range(frames) for frame in trace.output_frames(k)] == list(range(len(trace.video)))
    images = trace.frames("prediction")
    assert images.shape == (steps, *trace.video.shape)
    # Kandinsky changes the first frames after the last step: what was decoded is known up to rounding
    # and the safety checker of Cosmos 2 is given whole numbers, rounded down
    rounding = 1 if name in ("kandinsky5-image", "cosmos2") else 0.5
    if name == "ltx2-hdr":
        assert trace.meta["image_note"] == "the pipeline changed the decoded image"
    else:
        # within the last bits of a float, which decide where its fraction is a half
        assert np.abs(trace.decode(trace.latents[-1:])[0] - np.clip(video[0], 0, 1) * 255.0).max() <= rounding + 1e-3
    every = trace.heat_map("circle", frame="all")
    assert every.shape == (frames, *trace.layers[0].grid)
    np.testing.assert_array_equal(every[-1], trace.heat_map("circle", frame=-1))
    np.testing.assert_allclose(every.mean(axis=0), trace.heat_map("circle"), rtol=1e-5)
    share = trace.heat_map("circle", among=["square"], frame="all")
    assert share.shape == every.shape
    assert 0 <= share.min() <= share.max() <= 1
    with pytest.raises(IndexError, match=f"latent frames 0 to {frames - 1}"):
        trace.heat_map("circle", frame=frames)
    with pytest.raises(ValueError, match="name it, as frame=0"):
        trace.heat_map("circle", size="image")
    assert trace.heat_map("circle", size="image", frame=1).shape == trace.image.shape[:2]


@pytest.mark.parametrize("name", VIDEOS)
def test_a_change_of_the_text_changes_the_keys_of_its_word(name: str) -> None:
    _, trace = trace_of(name)
    layer = trace.layers[0].name
    before, row = conditional(name, seen_calls(name), layer)[0]
    pipe = build(name)
    family, denoiser = find_family(pipe)
    for word in [word for word in trace.words if word.kind == "word"][2:4]:
        position = word.tokens[0]

        def disturb(module: Any, args: Any, kwargs: dict[str, Any], position: int = position) -> Any:
            bound = inspect.signature(module.forward).bind(*args, **kwargs)
            text = bound.arguments[family.text_argument].clone()
            rows = slice(row * FRAMES, (row + 1) * FRAMES) if family.text_by_frame else -1
            text[rows, position] += 1.0
            bound.arguments[family.text_argument] = text
            return bound.args, bound.kwargs

        handle = denoiser.register_forward_pre_hook(disturb, with_kwargs=True)
        try:
            after, _ = conditional(name, seen_calls(name), layer)[0]
        finally:
            handle.remove()
        difference = (after.key[row] - before.key[row]).abs().amax(dim=(0, 2))
        changed = difference.nonzero()[:, 0].tolist()
        text, image = split(name, before)
        if name in POOLED:
            assert int(difference.argmax()) == text.start + position
        elif name in REFINED:
            assert text.start + position in changed
            assert not set(changed) & set(range(image.start, image.stop))
        else:
            assert changed == [text.start + position]


@pytest.mark.parametrize("name", VIDEOS)
def test_maps_lie_on_the_right_frame(name: str) -> None:
    """Perturb one latent pixel of one frame: the query that changes most is the one that the grid puts there."""
    _, trace = trace_of(name)
    family, denoiser = find_family(build(name))
    layer, grid, frames = trace.layers[0].name, trace.layers[0].grid, trace.frame_count
    height, width = trace.latents.shape[3:]
    frame, y, x = frames - 1, height - 1, width // 2
    before, row = conditional(name, seen_calls(name), layer)[0]

    def bump(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        first = "sample" if "sample" in bound.arguments else "hidden_states"
        bound.arguments[first] = latents = bound.arguments[first].clone()
        if family.packing:
            start = height * width if name == "ltx-conditions" else 0
            latents[:, start + (frame * height + y) * width + x] += 5
        elif family.frames_first:
            latents[:, frame + (name.startswith("cogvideox15")), :, y, x] += 5
        elif name.startswith("kandinsky"):
            latents[:, frame, y, x] += 5
        else:
            latents[:, :, frame + (name == "wan-vace-reference"), y, x] += 5
        return bound.args, bound.kwargs

    handle = denoiser.register_forward_pre_hook(bump, with_kwargs=True)
    try:
        after, _ = conditional(name, seen_calls(name), layer)[0]
    finally:
        handle.remove()
    video = split(name, before)[1]
    change = (before.query[row] - after.query[row])[:, video].abs().sum(dim=(0, 2)).numpy()
    places = by_frame(name, change, frames, grid)
    assert places.max() > 0
    y, x = y * grid[0] // height, x * grid[1] // width
    reach = 2 if family.denoiser_attribute == "unet" else 0  # a U-Net has convolutions before its attention
    assert places[frame, y - reach : y + 1 + reach, x - reach : x + 1 + reach].max() == places.max()


@pytest.mark.parametrize("name", ["wan-given-frame", "ltx-image", "ltx2-image"])
def test_a_given_frame_is_clean_at_every_step(name: str) -> None:
    """What the denoiser receives in the place of the first frame is the image, and so is what is predicted there."""
    _, trace = trace_of(name)
    for step in range(len(trace.steps)):
        np.testing.assert_array_equal(trace.latents[step, :, 0], trace.latents[-1, :, 0])
        np.testing.assert_allclose(trace.predictions[step, :, 0], trace.latents[-1, :, 0], rtol=1e-6)
    assert np.abs(trace.latents[0, :, 1:] - trace.latents[-1, :, 1:]).min() > 0


def test_a_given_frame_and_a_single_other_one_are_a_video() -> None:
    """Steps of LTX Video leave out the clean frame, and what is left of nine output frames is one latent frame."""
    name, size = "ltx-image", {"num_frames": 9}
    plain = call(name, **size)
    with dv.Tracer(build(name)) as tracer:
        assert np.array_equal(call(name, **size), plain)
    trace = tracer.trace
    assert trace.frame_count == 2
    np.testing.assert_array_equal(trace.latents[0, :, 0], trace.latents[-1, :, 0])
    assert np.abs(trace.latents[0, :, 1] - trace.latents[-1, :, 1]).min() > 0
    assert trace.heat_map("circle", frame="all").shape == (2, *trace.layers[0].grid)


def test_clean_latents_follow_from_the_noise_level_of_each_token() -> None:
    """The last step goes to the clean latents that its evaluation predicts, where no condition holds them."""
    _, trace = trace_of("ltx-conditions")
    np.testing.assert_allclose(trace.predictions[-1][:, 1:], trace.latents[-1][:, 1:], atol=1e-5)
    assert np.abs(trace.predictions[0] - trace.latents[-1])[:, 1:].mean() > 0.1


def test_quoted_text_moves_the_text_of_hunyuan_video_15() -> None:
    """ByT5's tokens of quoted text stand between the image and the text."""
    prompt = 'A sign that says "red square"'
    seen = seen_calls("hunyuan15", prompt=prompt)
    _, trace = trace_of("hunyuan15", keep="heads", prompt=prompt)
    quoted = len(build("hunyuan15").tokenizer_2('Text "red square". ').input_ids)
    word = next(index for index, word in enumerate(trace.words) if word.text == "sign")
    for step, (attention, row) in enumerate(conditional("hunyuan15", seen, trace.layers[0].name)):
        columns = attention.probabilities(row)[:, :18, [18 + min(quoted, 16) + k for k in trace.words[word].tokens]]
        assert_stored(trace.records[step].maps[0][:, word], columns.sum(axis=-1).reshape(-1, 3, 2, 3), 1e-5)


def test_both_transformers_of_wan_are_read() -> None:
    seen = seen_calls("wan-two")
    _, trace = trace_of("wan-two")
    counts = [len(calls.get(trace.layers[0].name, [])) // 2 for calls in seen]
    assert min(counts) > 0
    assert sum(counts) == len(trace.steps)
    assert not trace.reused.any()


@pytest.mark.parametrize("name", ["wan", "ltx", "mochi", "hunyuan", "ltx2", "animatediff", "text-to-video", "latte"])
def test_several_videos_of_several_prompts(name: str) -> None:
    prompts = [PROMPT, "two green houses"]
    with dv.Tracer(build(name)) as tracer:
        videos = call(name, prompt=prompts)
    assert [trace.prompt for trace in tracer.traces] == prompts
    for trace, video in zip(tracer.traces, videos, strict=True):
        assert np.array_equal(made(trace), np.round(video * 255).astype(np.uint8))


@pytest.mark.parametrize("output", ["pil", "pt", "latent"])
@pytest.mark.parametrize(
    "name",
    ["wan", "ltx", "wan-given-frame", "cogvideox15", "ltx-image", "ltx-conditions", "ltx2", "animatediff", "latte"],
)
def test_every_form_of_output_is_read(name: str, output: str) -> None:
    expected = trace_of(name)[1]
    with dv.Tracer(build(name)) as tracer:
        arguments = {"prompt": PROMPT, "output_type": output} | VIDEOS[name].arguments
        build(name)(**arguments, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(made(tracer.trace), made(expected))
    assert np.array_equal(tracer.trace.latents, expected.latents)
