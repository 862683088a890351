"""A video made by hand whose maps move: a ball crosses the image, and each word's attention is known in every frame.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.traces import Layer, Record, Step, Trace, Word

FACTOR = 4  # frames of the video for each latent frame after the first
SCALE = 8  # pixels for each latent pixel
TEXTS = ("a", "ball", "crosses", "the", "sky", "late")
WORDS = [Word(text, (index,), "word", (text,)) for index, text in enumerate(TEXTS)] + [
    Word("padding", (6, 7), "padding")
]


def ball(time: float, height: int, width: int) -> NDArray[np.float64]:
    """The ball at a time from 0 to 1: it flies from left to right in an arc, 0..1."""
    rows, columns = np.mgrid[0:height, 0:width]
    x, y = 2 + time * (width - 5), height * 0.6 - 4 * np.sin(np.pi * time)
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 5)


def decode(latents: NDArray[Any]) -> NDArray[np.uint8]:
    """Latents (n, C, F, h, w) to videos (n, frames, H, W, 3): frames between latent frames are their mixture."""
    count = FACTOR * (latents.shape[2] - 1) + 1
    times = np.linspace(0, latents.shape[2] - 1, count)
    before = np.minimum(times.astype(int), latents.shape[2] - 2)
    share = (times - before)[:, None, None]
    mixed = (1 - share) * latents[:, :3, before] + share * latents[:, :3, before + 1]
    pixels = np.clip(mixed, 0, 1).repeat(SCALE, axis=3).repeat(SCALE, axis=4) * 255
    return np.moveaxis(pixels, 1, -1).astype(np.uint8)


def moving_video(steps: int = 6, frames: int = 7, height: int = 12, width: int = 20) -> Trace:
    """The trace: "ball" is attended to where the ball is, "late" the more the later, "sky" at the top of each frame."""
    random = np.random.default_rng(0)
    rows = np.mgrid[0:height, 0:width][0]
    clean = np.zeros((4, frames, height, width), np.float32)
    for frame in range(frames):
        here = ball(frame / (frames - 1), height, width)
        sky = 0.35 + 0.25 * (1 - rows / height) - 0.2 * here
        clean[:3, frame] = 0.9 * here + 0.1, sky, 0.75 - 0.5 * (rows / height) - 0.4 * here
    noise = random.standard_normal(clean.shape).astype(np.float32)
    latents = [((1 - k / steps) * noise + k / steps * clean).astype(np.float32) for k in range(steps + 1)]
    trace = Trace(
        prompt=" ".join(TEXTS),
        negative_prompt=None,
        words=WORDS,
        layers=[Layer("blocks.0.attn2", "cross", 1, (height, width), True)],
        keep="layers",
        meta={"seed": 1, "scheduler": "UniPCMultistepScheduler", "frames_per_latent": FACTOR, "planned_steps": steps},
        decoder=decode,
    )
    for index in range(steps):
        share = (index + 1) / steps
        maps = 0.03 + 0.01 * random.random((len(WORDS), frames, height, width))
        for frame in range(frames):
            time = frame / (frames - 1)
            maps[1, frame] = 0.5 * share * ball(time, height, width) + 0.02
            maps[4, frame] = 0.2 * share * (1 - rows / height) + 0.02
            maps[5, frame] = 0.3 * share * time**3 * ball(time, height, width) + 0.005
        trace.append(
            Record(
                step=Step(index, 1000.0 - 100 * index, 1 - index / steps),
                latents=latents[index],
                result=latents[index + 1],
                prediction=(clean * share + (1 - share) * (0.3 * noise + 0.4)).astype(np.float32),
                guidance=np.abs(noise[0]) * np.float32(share),
                visible=1.0,
                maps=(maps[None].astype(np.float16),),
            )
        )
    return trace
