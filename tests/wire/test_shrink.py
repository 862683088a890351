"""A run within a megabyte: what is given up, in which order, and that what is left can still be read."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diffvis_widget.traces import Layer, Step, Word
from diffvis_widget.wire import images as image_codec
from diffvis_widget.wire.messages import VIEWS, RunSettings, View, end_message, run_message, step_message
from diffvis_widget.wire.packed_run import Message, dequantise, unpack
from diffvis_widget.wire.shrink import LIMIT, snapshot

STEPS = 6


def photo(seed: int, size: int) -> np.ndarray:
    """An image with soft shapes and some grain, as hard to compress as a photograph."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(soft) + rng.normal(0, 6, (size, size, 3)), 0, 255).astype(np.uint8)


def a_run(steps: int = STEPS, size: int = 256, grid: int = 32, words: int = 8) -> list[Message]:
    settings = RunSettings("p", None, 1, steps, 7.5, "uniform", 60.0, "S", "P")
    listed = [Word(f"w{index}", (index,), "word") for index in range(words)]
    layers = [Layer("a", "cross", 8, (grid, grid), True)]
    messages = [
        run_message("r", settings, listed, layers, grid=(grid, grid), image=(size, size), views=VIEWS, meter=None)
    ]
    rng = np.random.default_rng(0)
    for index in range(steps):
        maps = rng.random((words, grid, grid)).astype(np.float32)
        images: dict[View, bytes] = {
            "prediction": image_codec.webp(photo(index, size)),
            "latents": image_codec.webp(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)),
            "guidance": image_codec.grey(maps[0], 0, 1),
        }
        messages.append(step_message("r", Step(index, 1.0, 1.0), maps, images, (0, 1), True, 1.0))
    messages.append(end_message("r", "done", steps, 1.0, image=image_codec.png(photo(99, size))))
    return [message.stamped(seq) for seq, message in enumerate(messages)]


def test_a_small_run_is_kept_whole() -> None:
    messages = a_run(steps=2, size=96, grid=12)
    assert unpack(snapshot(messages)) == messages


def test_the_noisy_view_goes_first() -> None:
    messages = a_run()
    full = sum(message.size for message in messages)
    noisy = sum(len(message.buffers[1]) for message in messages[1:-1])
    shrunk = unpack(snapshot(messages, full - noisy // 2))
    assert shrunk[0].content["views"] == ["prediction", "guidance"]
    for before, after in zip(messages[1:-1], shrunk[1:-1], strict=True):
        assert after.content["views"] == ["prediction", "guidance"]
        assert after.buffers == (before.buffers[0], before.buffers[2], before.buffers[3])
    assert shrunk[-1] == messages[-1]


@pytest.mark.parametrize("limit", [400_000, 200_000, 100_000, 40_000, 20_000])
def test_whatever_the_limit_every_step_can_still_be_shown(limit: int) -> None:
    messages = a_run()
    packed = snapshot(messages, limit)
    assert 0 < len(packed) < limit
    shrunk = unpack(packed)
    assert [message.content["type"] for message in shrunk] == ["run", *["step"] * STEPS, "end"]
    for before, after in zip(messages[1:-1], shrunk[1:-1], strict=True):
        views = after.content["views"]
        assert "prediction" in views
        assert len(after.buffers) == len(views) + 1
        shown = np.asarray(image_codec.read(after.buffers[0]).resize((32, 32)), dtype=float)
        whole = np.asarray(image_codec.read(before.buffers[0]).resize((32, 32)), dtype=float)
        assert np.abs(shown - whole).mean() < 12
        maps = after.content["maps"]
        values = dequantise(after.buffers[-1], maps["shape"], maps["scales"])
        finest = dequantise(before.buffers[-1], before.content["maps"]["shape"], maps["scales"])
        factor = finest.shape[1] // values.shape[1]
        small = finest.reshape(len(finest), values.shape[1], factor, values.shape[2], factor).mean(axis=(2, 4))
        assert np.abs(values - small).max() < 0.02


def test_a_long_run_of_large_images_stays_under_a_megabyte() -> None:
    messages = a_run(steps=12, size=512, grid=64, words=24)
    assert sum(message.size for message in messages) > 3 * LIMIT
    packed = snapshot(messages)
    assert 0 < len(packed) < LIMIT
    assert len(unpack(packed)) == 14


def test_odd_grids_are_halved_too() -> None:
    messages = a_run(steps=2, size=64, grid=9)
    shrunk = unpack(snapshot(messages, 7_000))
    assert shrunk[1].content["maps"]["shape"] == [8, 4, 4]


def test_what_cannot_fit_is_not_written() -> None:
    assert snapshot(a_run(steps=2), 500) == b""
    assert len(snapshot([])) > 0
