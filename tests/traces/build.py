"""A small Trace made by hand, with numbers that the tests can follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import Layer, Record, Step, Trace, Word

WORDS = [
    Word("<|startoftext|>", (0,), "special"),
    Word("Red", (1,), "word", ("Red",)),
    Word("circle", (2, 3), "word", ("cir", "cle")),
    Word(",", (4,), "word", (",",)),
    Word("red", (5,), "word", ("red",)),
    Word("square", (6,), "word", ("square",)),
    Word("lost", (), "truncated"),
    Word("<|endoftext|>", (7,), "special"),
    Word("padding", (8, 9), "padding"),
]
LAYERS = [
    Layer("down.attn2", "cross", 2, (4, 6), True),
    Layer("mid.attn2", "cross", 2, (2, 3), False),
    Layer("up.attn2", "cross", 2, (8, 12), True),
]


def fake_decoder(latents: NDArray[Any]) -> NDArray[np.uint8]:
    grey = np.clip(latents[:, :1].astype(np.float32) * 40 + 128, 0, 255).astype(np.uint8)
    return np.repeat(np.moveaxis(grey, 1, -1), 3, axis=-1)


def make_trace(
    keep: Any = "layers",
    steps: int = 3,
    dtype: Any = np.float32,
    decoder: Any = fake_decoder,
    guidance: bool = True,
    negative: bool = False,
    layers: list[Layer] = LAYERS,
) -> Trace:
    rng = np.random.default_rng(7)
    trace = Trace(
        prompt="Red circle, red square lost",
        negative_prompt="red" if negative else None,
        negative_words=WORDS[:3] if negative else None,
        words=WORDS,
        layers=layers,
        keep=keep,
        meta={"seed": 7, "scheduler": "DDIMScheduler"},
        decoder=decoder,
    )
    latents = rng.standard_normal((steps + 1, 4, 8, 12)).astype(dtype)

    def maps(words: int) -> tuple[NDArray[np.float16], ...]:
        if keep == "words":
            return (rng.random((1, words, 8, 12)).astype(np.float16),) if layers else ()
        heads = 2 if keep == "heads" else 1
        return tuple(rng.random((heads, words, *layer.grid)).astype(np.float16) for layer in layers)

    for index in range(steps):
        trace.append(
            Record(
                step=Step(index, 900.0 - 100 * index, 5.0 - index, index == 1),
                latents=latents[index],
                result=latents[index + 1],
                prediction=rng.standard_normal((4, 8, 12)).astype(dtype),
                guidance=rng.random((8, 12)).astype(np.float32) if guidance else None,
                visible=1.0 / (1 + index),
                maps=maps(len(WORDS)),
                negative=maps(3) if negative and index < 2 else None,  # guidance may be switched off
                reused=(0, 2) if negative and index == 1 else (),
            )
        )
    return trace
