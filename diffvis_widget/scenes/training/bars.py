"""Measures prompt following during training: one line of `bars.jsonl` every so many steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline

from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.evaluation.captions import generate, held_out_scenes, score
from diffvis_widget.scenes.evaluation.judge import load_judge

CAPTIONS = 200


def log_accuracy(pipe: StableDiffusionPipeline, step: int, folder: Path, count: int = CAPTIONS) -> dict[str, float]:
    """Generate images of the first held-out captions, judge them, and append the accuracies to `bars.jsonl`.

    Args:
        pipe: The pipeline.
        step: The training step.
        folder: Where `bars.jsonl` is.
        count: Number of captions.

    Returns:
        The line: step, captions, and each measure of `python -m diffvis_widget.scenes.evaluation.captions`, 0..1.
    """
    scenes = held_out_scenes(count)
    images = generate([scene.caption for scene in scenes], pipe=pipe)
    scores = score(scenes, load_judge(WEIGHTS / "judge.safetensors").detect(np.asarray(images)))
    line = {"step": step, "captions": count}
    line |= {measure: round(right / total, 4) for measure, (right, total) in scores.items()}
    with (folder / "bars.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print("bars", line, flush=True)
    return line
