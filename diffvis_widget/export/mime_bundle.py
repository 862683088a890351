"""A run for hosts that show no widgets: a filmstrip and a sentence."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from diffvis_widget.traces.printable import printable
from diffvis_widget.wire import images as image_codec
from diffvis_widget.wire.packed_run import Message

from .layout import draw_tiles

TILES, TILE_SIZE = 8, 96


WIDGET_ADVICE = (
    "Run the cell to see the interactive widget. To keep it in the notebook, choose “Save Widget State Automatically” "
    "in the menu Settings before you save."
)


def static_representations(messages: Sequence[Message], advice: str = "") -> dict[str, str]:
    """The representations of a run that need no widget.

    Args:
        messages: The messages of the run, beginning with its "run" message.
        advice: What to do to see more, for the end of the text and below the images.

    Returns:
        ``text/plain``, and ``image/png`` in base64 where the run has images; nothing where there is no run.
    """
    if not messages or messages[0].content["type"] != "run":
        return {}
    bundle = {"text/plain": f"{_sentence(messages)} {advice}".strip()}
    if strip := _filmstrip(messages, advice):
        bundle["image/png"] = base64.b64encode(strip).decode()
    return bundle


def _filmstrip(messages: Sequence[Message], advice: str) -> bytes | None:
    steps = [message for message in messages if message.content["type"] == "step"]
    shown = [message for message in steps if "prediction" in message.content["views"]]
    if not shown:
        return None
    chosen = sorted({round(position) for position in np.linspace(0, len(shown) - 1, min(TILES, len(shown)))})
    images: list[Image.Image] = []
    for index in chosen:
        image = image_codec.read(shown[index].buffers[shown[index].content["views"].index("prediction")])
        scale = TILE_SIZE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        images.append(image.resize(size, Image.Resampling.BICUBIC))
    labels = [str(shown[index].content["index"] + 1) for index in chosen]
    return image_codec.png(np.asarray(draw_tiles(images, labels, TILES, advice)))


def _sentence(messages: Sequence[Message]) -> str:
    run: dict[str, Any] = messages[0].content
    done = sum(message.content["type"] == "step" for message in messages)
    parts = [f"DiffVis: “{printable(run['prompt'])}”", f"{done} of {run['steps']} steps"]
    parts += [f"seed {run['seed']}"] if run["seed"] is not None else []
    parts += [f"guidance {run['guidance_scale']:g}"] if run["guidance_scale"] is not None else []
    sentence = ", ".join(parts) + "."
    scores = next((message.content for message in messages if message.content["type"] == "scores"), None)
    if scores and len(scores["cosine"]) == done:  # scores that lag behind would be those of an earlier step
        pairs = zip(scores["concepts"], scores["cosine"][-1], strict=True)
        values = ", ".join(f"{printable(concept)} {value:.2f}" for concept, value in pairs if value is not None)
        sentence += f" Cosine at the last step: {values}." if values else ""
    return sentence
