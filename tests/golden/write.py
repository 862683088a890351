"""Writes the golden files: packed runs (.bin) and what every reader must find in them (.json).

    python -m tests.golden.write

pytest holds the Python side to these files (tests/wire/test_messages.py), vitest the TypeScript side. Images are
stand-in bytes, so that the files depend on no image codec. A case whose JSON is {"error": true} must be refused.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.traces import Layer, Step, Word
from diffvis_widget.wire.messages import (
    VIEWS,
    RunSettings,
    View,
    end_message,
    frame_message,
    run_message,
    scores_message,
    step_message,
)
from diffvis_widget.wire.packed_run import MAGIC, Message, dequantise, pack, unpack
from diffvis_widget.wire.replies import LayerMap, error_message, layers_message

FOLDER = Path(__file__).parent


def stand_in_image(seed: int, size: int) -> bytes:
    return bytes((seed * 31 + i * 7) % 256 for i in range(size))


def ramp(words: int, height: int, width: int, seed: int) -> np.ndarray:
    """Maps whose every value is a known formula: word w, row y, column x."""
    w, y, x = np.mgrid[0:words, 0:height, 0:width]
    return ((w + 1) * (seed + 1) * (y * width + x) / 1000).astype(np.float32)


def a_run() -> list[Message]:
    words = [
        Word("<|startoftext|>", (0,), "special", ("<|startoftext|>",)),
        Word("a", (1,), "word", ("a",)),
        Word("red", (2,), "word", ("red",)),
        Word("weathervane", (3, 4), "word", ("weather", "vane")),
        Word("<|endoftext|>", (5,), "special", ("<|endoftext|>",)),
        Word("", tuple(range(6, 77)), "padding"),
    ]
    settings = RunSettings(
        prompt="a red weathervane",
        negative_prompt=None,
        seed=7,
        steps=3,
        guidance_scale=7.5,
        schedule="early",
        schedule_strength=60.0,
        scheduler="DPMSolverMultistepScheduler",
        pipeline="StableDiffusionPipeline",
    )
    layers = [
        Layer("down_blocks.0.attentions.0.transformer_blocks.0.attn2", "cross", 4, (4, 6), True),
        Layer("mid_block.attentions.0.transformer_blocks.0.attn2", "cross", 8, (2, 3), False),
    ]
    messages = [
        run_message(
            "r1",
            settings,
            words,
            layers,
            grid=(4, 6),
            image=(32, 48),
            views=VIEWS,
            meter="scenes CLIP",
            unknown={"weathervane"},
        )
    ]
    for index in range(3):
        images: dict[View, bytes] = {
            "prediction": stand_in_image(index, 40),
            "latents": stand_in_image(index + 10, 30),
            "guidance": stand_in_image(index + 20, 20),
        }
        messages.append(
            step_message(
                "r1",
                Step(index, 999.0 - 333 * index, 14.5 / (index + 1), index == 1),
                ramp(len(words), 4, 6, index),
                images,
                (0.0, 0.5 + index),
                exact=index == 2,
                elapsed=0.25 * (index + 1),
            )
        )
    nan = float("nan")
    return [
        *messages,
        frame_message("r1", 0, stand_in_image(40, 50)),
        scores_message(
            "r1",
            0,
            ["red", "weathervane"],
            np.array([[0.1, 0.2], [0.15, nan], [0.3, 0.25]], dtype=np.float32),
            np.array([[0.05, 0.2]] * 3, dtype=np.float32),
            np.array([[0.4, 0.6], [0.5, 0.5], [0.7, 0.3]], dtype=np.float32),
            np.array([2, nan], dtype=np.float32),
            "scenes CLIP",
        ),
        layers_message(
            "r1",
            5,
            1,
            2,
            [
                LayerMap("down.0", 0, ramp(1, 2, 3, 4)[0]),
                LayerMap("down.0", 1, np.full((2, 3), nan, dtype=np.float32)),
                LayerMap("mid", None, ramp(1, 4, 6, 1)[0]),
            ],
        ),
        error_message("r1", "word 99 is out of range", 6),
        end_message("r1", "done", 3, 0.75, image=stand_in_image(50, 64)),
    ]


def hard_text() -> list[Message]:
    """Emoji, right-to-left text and markup in the prompt, a truncated word, no guidance, a failure after one step."""
    words = [
        Word("<b>שלום</b>", (1, 2, 3), "word", ("<b>", "שלום", "</b>")),
        Word("\U0001f9d1‍\U0001f680", (4,), "word", ("\U0001f9d1‍\U0001f680",)),
        Word("</script>", (5, 6), "word", ("</", "script>")),
        Word("lost", (), "truncated"),
    ]
    settings = RunSettings(
        prompt="<b>שלום</b> \U0001f9d1‍\U0001f680 </script> lost",
        negative_prompt='"quotes" & <i>',
        seed=2**53 - 1,
        steps=2,
        guidance_scale=None,
        schedule="uniform",
        schedule_strength=60.0,
        scheduler="EulerDiscreteScheduler",
        pipeline="FluxPipeline",
    )
    maps = ramp(4, 2, 2, 0)
    maps[3] = np.nan
    maps[1] = 0.125  # a flat map: lo == hi
    step = Step(0, float("nan"), float("inf"))
    return [
        run_message("r2", settings, words, [], grid=(2, 2), image=(16, 16), views=("prediction",), meter=None),
        step_message("r2", step, maps, {"prediction": stand_in_image(1, 9)}, None, False, 0.1),
        end_message("r2", "failed", 1, 0.2, error="ValueError: <img src=x onerror=alert(1)>"),
    ]


def cases() -> dict[str, bytes]:
    run, text = pack(seq(a_run())), pack(seq(hard_text()))
    header = b'{"messages":[{"content":{"type":"run"},"buffers":[-1]}]}'
    return {
        "run": run,
        "text": text,
        "empty": pack([]),
        "bad-magic": b"DVR2" + run[4:],
        "bad-cut": run[:-10],
        "bad-header-cut": run[:40],
        "bad-tail": text + b"more",
        "bad-buffer": MAGIC + struct.pack("<I", len(header)) + header,
        "bad-json": MAGIC + struct.pack("<I", 4) + b"[{]}",
        "bad-shape": MAGIC + struct.pack("<I", 2) + b"[]",
        "bad-nothing": b"",
    }


def seq(messages: list[Message]) -> list[Message]:
    return [message.stamped(index) for index, message in enumerate(messages)]


def expected(data: bytes) -> dict[str, Any]:
    """What a reader must find: contents word for word, buffers as hex, maps as numbers."""
    try:
        messages = unpack(data)
    except ValueError:
        return {"error": True}
    messages_found: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"content": message.content, "buffers": [buffer.hex() for buffer in message.buffers]}
        if message.content["type"] == "step":
            maps = message.content["maps"]
            values = dequantise(message.buffers[-1], maps["shape"], maps["scales"])
            entry["maps"] = [None if np.isnan(p).any() else [round(float(v), 6) for v in p.ravel()] for p in values]
        messages_found.append(entry)
    return {"messages": messages_found}


def main() -> None:
    for name, data in cases().items():
        (FOLDER / f"{name}.bin").write_bytes(data)
        text = json.dumps(expected(data), ensure_ascii=False, indent=1) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
