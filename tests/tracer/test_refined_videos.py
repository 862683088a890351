"""Refined maps of videos: self-attention within each frame, against the same computed token by token in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.tracer import refinement
from diffvis_widget.traces import Trace
from tests.tracer.families.test_video_families import PROMPT, VIDEOS, build, call, seen_calls, split, trace_of
from tests.tracer.recorder import Attention
from tests.tracer.reference import assert_stored

# the layer whose self-attention is read
LAYERS = {
    "wan": "blocks.0.attn1",
    "wan-two": "blocks.0.attn1",
    "ltx": "transformer_blocks.0.attn1",
    "wan-vace-reference": "blocks.0.attn1",
    "ltx-conditions": "transformer_blocks.0.attn1",
    "ltx2": "transformer_blocks.0.attn1",
    "latte": "transformer_blocks.1.attn1",
    "animatediff": "up_blocks.2.attentions.1.transformer_blocks.0.attn1",
    "i2vgen": "up_blocks.0.attentions.1.transformer_blocks.0.attn1",
    "cogvideox": "transformer_blocks.0.attn1",
    "cogvideox15": "transformer_blocks.0.attn1",
    "hunyuan": "transformer_blocks.0.attn",
    "cosmos2": "transformer_blocks.0.attn1",
    "cosmos25": "transformer_blocks.0.attn1",
    "cosmos25-image": "transformer_blocks.0.attn1",
    "kandinsky5": "visual_transformer_blocks.0.self_attention",
    "kandinsky5-image": "visual_transformer_blocks.0.self_attention",
    "kandinsky6": "visual_transformer_blocks.0.video_dec_block.self_attention",
    "kandinsky6-image": "visual_transformer_blocks.0.video_dec_block.self_attention",
}
FRAMES_IN_BATCH = ("animatediff", "i2vgen", "latte")


def within_frames(name: str, trace: Trace, attention: Attention) -> list[np.ndarray]:
    """float64 (tokens, tokens) of each frame of tokens: the mean over heads of a softmax over that frame alone."""
    if name in FRAMES_IN_BATCH:
        frames = trace.frame_count
        return [
            attention.probabilities(row).mean(axis=0)
            for row in range(len(attention.query) - frames, len(attention.query))
        ]
    row = 0 if VIDEOS[name].guided == "two calls" else len(attention.query) - 1
    shares = attention.probabilities(row)
    video = split(name, attention)[1]
    shares = shares[:, video, video]
    size = trace.layers[0].grid[0] * trace.layers[0].grid[1]
    spans = [slice(start, start + size) for start in range(0, shares.shape[1], size)]
    parts = [shares[:, span, span] for span in spans]
    return [(part / part.sum(axis=-1, keepdims=True)).mean(axis=0) for part in parts]


def refined_by_hand(weights: list[np.ndarray], words: np.ndarray) -> np.ndarray:
    """The weights of each frame, and maps (words, F, h, w), in float64; relative to the mean over the video."""
    smoothed = np.zeros(words.shape)
    for frame, part in enumerate(weights):
        for word in range(len(words)):
            values = words[word, frame].ravel().astype(np.float64)
            smoothed[word, frame] = (part @ (part @ values)).reshape(words.shape[2:])
    squares = (smoothed / smoothed.mean(axis=(1, 2, 3), keepdims=True)) ** 2
    return squares / squares.mean(axis=(1, 2, 3), keepdims=True)


@pytest.mark.parametrize("name", LAYERS)
def test_refined_maps_follow_the_self_attention_of_each_frame(name: str) -> None:
    seen = [attention for calls in seen_calls(name) for attention in calls.get(LAYERS[name], [])]
    plain = call(name)
    video, trace = trace_of(name)
    assert np.array_equal(plain, video)
    evaluations = seen[::2] if VIDEOS[name].guided == "two calls" else seen
    if name == "ltx2":  # evaluates the prompt again, without its sound, after both branches in one batch
        evaluations = [attention for attention in evaluations if len(attention.query) == 2]
    assert len(evaluations) == len(trace.steps)
    words = [index for index, word in enumerate(trace.words) if word.tokens and word.kind != "padding"]
    for step, attention in enumerate(evaluations):
        weights = within_frames(name, trace, attention)
        maps = trace.heat_maps(step, frame="all")[words]
        if name == "cogvideox15":  # two frames of tokens, of which the first is that of the first latent frame
            maps = maps[:, [0, 1]]
        assert len(weights) == maps.shape[1]
        expected = refined_by_hand(weights, maps)
        if name == "cogvideox15":
            expected = expected[:, [0, 1, 1]]
        stored = trace.records[step].refined
        assert stored is not None
        assert stored.shape[1:] == (trace.frame_count, *trace.layers[0].grid)
        # the maps that it is made of were rounded to float16
        assert_stored(stored[words], expected, 4e-3 * expected.max())


def test_keys_of_a_large_frame_are_pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 2 x 3 tokens of a frame, two cells of 2 x 2 and 2 x 1 tokens: their keys are means, and they count as many."""
    monkeypatch.setattr(refinement, "MOST_KEYS", 2)
    attention = next(part for calls in seen_calls("wan") for part in calls[LAYERS["wan"]])
    _, trace = trace_of("wan")
    stored = trace.records[0].refined
    assert stored is not None
    cells, counts = [[0, 1, 3, 4], [2, 5]], np.array([4, 2])
    weights: list[np.ndarray] = []
    for frame in range(trace.frame_count):
        span = slice(frame * 6, frame * 6 + 6)
        query, key = (part[0, :, span].double().numpy() for part in (attention.query, attention.key))
        means = np.stack([key[:, cell].mean(axis=1) for cell in cells], axis=1)
        scores = np.exp(np.einsum("hqc,hkc->hqk", query, means) * attention.scale) * counts
        shares = (scores / scores.sum(axis=-1, keepdims=True)).mean(axis=0)
        weights.append(np.stack([shares[:, 0] / 4, shares[:, 0] / 4, shares[:, 1] / 2] * 2, axis=1))
    words = [index for index, word in enumerate(trace.words) if word.tokens]
    expected = refined_by_hand(weights, trace.heat_maps(0, frame="all")[words])
    assert_stored(stored[words], expected, 4e-3 * expected.max())


def test_files_hold_them_and_figures_do_not_choose_them(tmp_path: Path) -> None:
    _, trace = trace_of("wan")
    opened = dv.open_trace(trace.save(tmp_path / "video.safetensors"))
    every = opened.heat_map("circle", kind="refined", frame="all")
    np.testing.assert_array_equal(every, trace.heat_map("circle", kind="refined", frame="all"))
    np.testing.assert_array_equal(every[1], opened.heat_map("circle", kind="refined", frame=1))
    np.testing.assert_allclose(every.mean(), 1, atol=2e-3)
    share = opened.heat_map("circle", kind="refined", among=["square"], frame="all")
    assert share.shape == every.shape
    options: list[dict[str, Any]] = [{}, {"kind": "probability"}, {"kind": "refined"}]
    plain, chosen, refined = (
        dv.export.png(opened, tmp_path / f"{index}.png", step=0, words="circle", frame=1, **more)
        for index, more in enumerate(options)
    )
    assert plain == chosen
    assert chosen != refined


@pytest.mark.filterwarnings("ignore:In CPU autocast", "ignore:User provided device_type")
def test_each_prompt_of_mochi_has_its_own() -> None:
    """Its rows attend one by one: two without the prompt, then those of both prompts."""
    prompts = [PROMPT, "two green houses"]
    layer = "transformer_blocks.0.attn1"
    seen = seen_calls("mochi", prompt=prompts)[0][layer]
    with dv.Tracer(build("mochi")) as tracer:
        call("mochi", prompt=prompts)
    for row, trace in enumerate(tracer.traces):
        words = [index for index, word in enumerate(trace.words) if word.kind == "word"]
        for step in range(len(trace.steps)):
            shares = seen[4 * step + 2 + row].probabilities(0)[:, :18, :18]
            parts = [shares[:, start : start + 6, start : start + 6] for start in (0, 6, 12)]
            weights = [(part / part.sum(axis=-1, keepdims=True)).mean(axis=0) for part in parts]
            expected = refined_by_hand(weights, trace.heat_maps(step, frame="all")[words])
            stored = trace.records[step].refined
            assert stored is not None
            assert_stored(stored[words], expected, 4e-3 * expected.max())


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_linear_attention_refines_nothing() -> None:
    _, trace = trace_of("sana-video")
    assert not trace.has_refined_maps
    with pytest.raises(ValueError, match=r"could not be read \(linear attention"):
        trace.heat_map("circle", kind="refined")
