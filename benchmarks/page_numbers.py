"""Compares the engine of the page that paints with `dv.trace`: 20 prompts, 2 guidance scales, 3 schedules, 30 steps.

    python -m benchmarks.page_numbers [--steps 30] [--prompts 20] [--folder .cache/page_numbers]

The engine runs in Node (js/dev/engineRuns.ts) with the program and the model of the page; it needs js/node_modules.
All takes about an hour on two cores. What is finished lies in the folder, one file for each run: when the command was
ended, the next one goes on where it stopped. Results of another model or engine are not taken up.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import diffvis_widget as dv
from diffvis_widget import front_end
from diffvis_widget.concepts import default_meter
from diffvis_widget.export.live_page import packed_model
from diffvis_widget.traces.file.whole_file import write_bytes_whole

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
SCALES = (1.0, 7.5)
SCHEDULES = ("uniform", "early", "late")
REQUIRED = {
    "final latents, largest of all values": 1e-2,
    "final image, mean, of 255": 2.0,
    "attention maps of all steps, largest": 1e-3,
    "refined maps of all steps, largest, in units of max(1, value)": 1e-3,
    'cosines of "circle" and "red" at 7 steps, largest': 5e-3,
}
SCORED = 7  # steps whose images are decoded and scored


def requests(prompts: int, steps: int) -> list[dict[str, Any]]:
    """The settings of all runs."""
    combinations = itertools.product(enumerate(PROMPTS[:prompts]), SCALES, SCHEDULES)
    scored = sorted({round(float(step)) for step in np.linspace(0, steps - 1, SCORED)})
    return [
        {
            "prompt": prompt,
            "seed": seed,
            "steps": steps,
            "guidance_scale": scale,
            "schedule": schedule,
            "concepts": ["circle", "red"],
            "scored": scored,
        }
        for (seed, prompt), scale, schedule in combinations
    ]


def engine_script() -> Path:
    """The engine for Node, bundled."""
    script = JS / "dev" / "out" / "engineRuns.mjs"
    bundle = [str(JS / "node_modules" / ".bin" / "esbuild"), str(JS / "dev" / "engineRuns.ts"), "--bundle"]
    options = ["--platform=node", "--format=esm", "--packages=external", "--log-level=error", f"--outfile={script}"]
    subprocess.run([*bundle, *options], check=True)
    return script


def page_runs(script: Path, runs: list[dict[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """What the engine computes, run after run."""
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("node is not on PATH: put .venv/bin there")
    (folder / "model.gz").write_bytes(packed_model("[]"))
    (folder / "runs.json").write_text(json.dumps(runs))
    command = [node, script, folder / "model.gz", front_end.STATIC / "engine.wasm.gz", folder / "runs.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise RuntimeError(f"the engine ended with exit code {process.returncode}; its output is above")


def differences(pipe: Any, run: dict[str, Any], result: dict[str, Any]) -> list[float]:
    """The differences of one run, in the order of `REQUIRED`."""
    settings = {name: run[name] for name in ("seed", "guidance_scale", "schedule")}
    trace = dv.trace(pipe, run["prompt"], num_inference_steps=run["steps"], **settings)
    assert [[word.text, list(word.tokens)] for word in trace.words] == [
        [word["text"], word["tokens"]] for word in result["words"]
    ]
    maps = np.stack([trace.heat_maps(step=step) for step in range(len(trace.steps))])
    refined = np.stack([trace.heat_maps(step=step, kind="refined") for step in range(len(trace.steps))])
    page_maps, page_refined = (np.array(result[name], dtype=float).reshape(maps.shape) for name in ("maps", "refined"))
    frames = np.stack([trace.frame("prediction", step) for step in run["scored"]])
    cosine, _ = default_meter().scores(frames, run["concepts"])
    return [
        float(np.abs(trace.latents[-1].ravel() - result["latents"]).max()),
        float(np.abs(trace.image.ravel() - np.array(result["image"], dtype=float)).mean()),
        float(np.nanmax(np.abs(maps - page_maps))),
        float(np.nanmax(np.abs(refined - page_refined) / np.maximum(1, refined))),
        float(np.abs(cosine - result["cosines"]).max()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--folder", type=Path, default=Path(".cache", "page_numbers"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    script = engine_script()
    version = hashlib.sha256(gzip.decompress(packed_model("[]")) + script.read_bytes()).hexdigest()
    runs = requests(options.prompts, options.steps)
    paths = [
        options.folder / f"{hashlib.sha256(json.dumps([version, run]).encode()).hexdigest()[:16]}.json" for run in runs
    ]
    missing = [(run, path) for run, path in zip(runs, paths, strict=True) if not path.is_file()]
    if missing:
        pipe = dv.load()
        results = page_runs(script, [run for run, _ in missing], options.folder)
        for done, ((run, path), result) in enumerate(zip(missing, results, strict=True), start=1):
            write_bytes_whole(path, json.dumps(differences(pipe, run, result)).encode())
            print(f"{done} of {len(missing)}", end="\r", flush=True)
    rows = np.array([json.loads(path.read_text()) for path in paths])
    print(
        f"{len(runs)} runs of {options.steps} steps\n\n| | largest difference | median | required |\n|---|---|---|---|"
    )
    for (name, required), column in zip(REQUIRED.items(), rows.T, strict=True):
        print(f"| {name} | {column.max():.1e} | {np.median(column):.1e} | {required:g} |")
    print(f"\n| guidance | schedule | {' | '.join(REQUIRED)} |\n|---|---|{'---|' * len(REQUIRED)}")
    for scale, schedule in itertools.product(SCALES, SCHEDULES):
        chosen = [(run["guidance_scale"], run["schedule"]) == (scale, schedule) for run in runs]
        print(f"| {scale:g} | {schedule} | {' | '.join(f'{value:.1e}' for value in rows[chosen].max(axis=0))} |")
    assert (rows <= list(REQUIRED.values())).all()


if __name__ == "__main__":
    main()
