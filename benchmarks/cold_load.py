"""Where the time goes from a new process to the first step of the built-in model, in seconds of CPU time.

    python -m benchmarks.cold_load

Each row is imported in a new process after the rows above it, and says what forces it. CPU time rather than wall time,
because a busy machine stretches the latter; the median of five processes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

ROUNDS = 5
STAGES = {
    "import torch": "every network",
    "import torch._dynamo": "diffusers.utils.torch_utils; every pipeline asks it whether a module is compiled",
    "import transformers": "its package files list all models of the library",
    "import scipy.optimize": "transformers.modeling_utils, through the losses of detection models",
    "import torchvision.transforms": "transformers.image_utils, for CLIPImageProcessor",
    "import transformers.modeling_utils": "CLIPTextModel",
    "from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer": "StableDiffusionPipeline",
    "import diffusers": "reads the metadata of all installed packages",
    "from diffusers import StableDiffusionPipeline, DPMSolverMultistepScheduler": "the pipeline itself",
    "import diffvis_widget.tracer": "the first run",
    "import diffvis_widget; pipe = diffvis_widget.load()": "reading the weights",
    'pipe("a red circle", num_inference_steps=1)': "the first step, the text and the image",
}
PROGRAM = """
import json, sys, time
from diffvis_widget._compat.library_imports import library_imports
seconds, before = [], time.process_time()
with library_imports():
    for stage in json.loads(sys.argv[1]):
        exec(stage)
        seconds.append(time.process_time() - before)
        before += seconds[-1]
print(json.dumps(seconds))
"""


def measure() -> dict[str, float]:
    """The median CPU time of each stage.

    Returns:
        Seconds by stage.
    """
    rounds: list[list[float]] = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-c", PROGRAM, json.dumps(list(STAGES))]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rounds.append(json.loads(output.splitlines()[-1]))
    return {stage: statistics.median(times) for stage, times in zip(STAGES, zip(*rounds, strict=True), strict=True)}


def main() -> None:
    seconds = measure()
    print("| stage | forced by | seconds |\n| --- | --- | ---: |")
    for stage, reason in STAGES.items():
        print(f"| `{stage}` | {reason} | {seconds[stage]:.2f} |")
    print(f"| all | | {sum(seconds.values()):.2f} |")


if __name__ == "__main__":
    main()
