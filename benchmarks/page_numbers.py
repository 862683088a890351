"""Compares the engine of the page that paints with `dv.trace`: 20 prompts, 2 guidance scales, 3 schedules.

    python -m benchmarks.page_numbers [--steps 8] [--prompts 20]

The engine runs in Node (js/dev/engineRuns.ts) with the program and the model of the page; it needs js/node_modules.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import diffvis_widget as dv
from diffvis_widget import front_end
from diffvis_widget.export.live_page import packed_model

JS = Path(__file__).parent.parent / "js"
PROMPTS = [
    "a red circle above a blue square",
    "a striped triangle, left of a green ring",
    "a dotted yellow star",
    "a small white moon over a house",
    "two purple crosses",
    "a big orange heart on grass",
    "a black square below a pink circle",
    "a tree and a sun",
    "a green triangle inside a ring",
    "a blue boat on water at night",
    "a photo of a dog",
    "",
    "RED circle!",
    "left-of-centre blue star",
    "赤い丸と青い四角",
    "دائرة حمراء فوق مربع أزرق",
    "👍🏽 a yellow heart 🇫🇷",
    "a circle " * 20,
    "it's the artist's grey square",
    "a red circle, a red circle, a red circle",
]
BARS = {"latents, max": 1e-2, "image, mean of 255": 2.0, "heat maps, max": 1e-3, "cosines, max": 5e-3}


def requests(prompts: int, steps: int) -> list[dict[str, Any]]:
    """The settings of all runs."""
    combinations = itertools.product(enumerate(PROMPTS[:prompts]), (1.0, 7.5), ("uniform", "early", "late"))
    return [
        {
            "prompt": prompt,
            "seed": seed,
            "steps": steps,
            "guidance_scale": scale,
            "schedule": schedule,
            "concepts": ["circle", "red"],
        }
        for (seed, prompt), scale, schedule in combinations
    ]


def page_runs(runs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What the engine computes."""
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("node is not on PATH: put .venv/bin there")
    script = JS / "dev" / "out" / "engineRuns.mjs"
    bundle = [str(JS / "node_modules" / ".bin" / "esbuild"), str(JS / "dev" / "engineRuns.ts"), "--bundle"]
    options = ["--platform=node", "--format=esm", "--packages=external", "--log-level=error", f"--outfile={script}"]
    subprocess.run([*bundle, *options], check=True)
    (folder / "model.gz").write_bytes(packed_model("[]"))
    (folder / "runs.json").write_text(json.dumps(runs))
    files = [folder / "model.gz", front_end.STATIC / "engine.wasm.gz", folder / "runs.json", folder / "out.json"]
    subprocess.run([node, script, *files], check=True)
    return json.loads((folder / "out.json").read_text())


def differences(pipe: Any, run: dict[str, Any], result: dict[str, Any]) -> dict[str, float]:
    """The differences of one run, by the names of `BARS`."""
    settings = {name: run[name] for name in ("seed", "guidance_scale", "schedule")}
    trace = dv.trace(pipe, run["prompt"], num_inference_steps=run["steps"], keep="heads", **settings)
    assert [[word.text, list(word.tokens)] for word in trace.words] == [
        [word["text"], word["tokens"]] for word in result["words"]
    ]
    maps = np.stack([trace.heat_maps(step=step) for step in range(len(trace.steps))])
    page_maps = np.array(result["maps"], dtype=float).reshape(maps.shape)
    scores = dv.concept_scores(trace, run["concepts"])
    return {
        "latents, max": float(np.abs(trace.latents[-1].ravel() - result["latents"]).max()),
        "image, mean of 255": float(np.abs(trace.image.ravel() - np.array(result["image"], dtype=float)).mean()),
        "heat maps, max": float(np.nanmax(np.abs(maps - page_maps))),
        "cosines, max": float(np.abs(scores.cosine - result["cosines"]).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    options = parser.parse_args()
    runs = requests(options.prompts, options.steps)
    with tempfile.TemporaryDirectory() as folder:
        results = page_runs(runs, Path(folder))
    pipe = dv.load()
    rows = [differences(pipe, run, result) for run, result in zip(runs, results, strict=True)]
    print(f"{len(runs)} runs of {options.steps} steps\n\n| | largest difference | bar |\n|---|---|---|")
    for name, bar in BARS.items():
        print(f"| {name} | {max(row[name] for row in rows):.1e} | {bar:g} |")
    assert all(row[name] <= bar for row in rows for name, bar in BARS.items())


if __name__ == "__main__":
    main()
