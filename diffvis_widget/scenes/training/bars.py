"""How well the model follows its prompt while it learns: a line of `bars.jsonl` every so many steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from diffusers import StableDiffusionPipeline

from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.evaluation.captions import generate, held_out_scenes, score
from diffvis_widget.scenes.evaluation.judge import load_judge

CAPTIONS = 200


def append_bars(pipe: StableDiffusionPipeline, step: int, folder: Path, count: int = CAPTIONS) -> dict[str, float]:
    """Paint the first `count` held-out captions, have the shipped judge answer, and append its shares of right answers.

    Returns the line: step, captions, and each measure of `python -m diffvis_widget.scenes.evaluation.captions`, 0..1.
    """
    scenes = held_out_scenes(count)
    pictures = generate([scene.caption for scene in scenes], pipe=pipe)
    found = score(scenes, load_judge(WEIGHTS / "judge.safetensors").look(np.asarray(pictures)))
    line = {"step": step, "captions": count}
    line |= {measure: round(right / total, 4) for measure, (right, total) in found.items()}
    with (folder / "bars.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
    print("bars", line, flush=True)
    return line
