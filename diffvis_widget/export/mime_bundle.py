"""A run for hosts that show no widgets: a filmstrip and a sentence."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from diffvis_widget.wire import images as pictures
from diffvis_widget.wire.messages import Message

from .drawing import tiles

TILES, TILE = 8, 96


def mime_bundle(messages: Sequence[Message]) -> dict[str, str]:
    """``image/png`` and ``text/plain`` of a run, from the messages that tell the page of it; nothing for no run."""
    if not messages or messages[0].content["type"] != "run":
        return {}
    found = {"text/plain": _sentence(messages)}
    if shown := _filmstrip(messages):
        found["image/png"] = base64.b64encode(shown).decode()
    return found


def _filmstrip(messages: Sequence[Message]) -> bytes | None:
    steps = [message for message in messages if message.content["type"] == "step"]
    seen = [message for message in steps if "prediction" in message.content["views"]]
    if not seen:
        return None
    chosen = sorted({round(at) for at in np.linspace(0, len(seen) - 1, min(TILES, len(seen)))})
    images: list[Image.Image] = []
    for index in chosen:
        image = pictures.read(seen[index].buffers[seen[index].content["views"].index("prediction")])
        scale = TILE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        images.append(image.resize(size, Image.Resampling.BICUBIC))
    labels = [str(seen[index].content["index"] + 1) for index in chosen]
    return pictures.png(np.asarray(tiles(images, labels, TILES)))


def _sentence(messages: Sequence[Message]) -> str:
    run: dict[str, Any] = messages[0].content
    done = sum(message.content["type"] == "step" for message in messages)
    said = [f"DiffVis: “{run['prompt']}”", f"{done} of {run['steps']} steps"]
    said += [f"seed {run['seed']}"] if run["seed"] is not None else []
    said += [f"guidance {run['guidance_scale']:g}"] if run["guidance_scale"] is not None else []
    sentence = ", ".join(said) + "."
    scores = next((message.content for message in messages if message.content["type"] == "scores"), None)
    if scores and len(scores["cosine"]) == done:  # late ones would be those of an earlier step
        pairs = zip(scores["concepts"], scores["cosine"][-1], strict=True)
        told = ", ".join(f"{concept} {value:.2f}" for concept, value in pairs if value is not None)
        sentence += f" Cosine at the last step: {told}." if told else ""
    return sentence
