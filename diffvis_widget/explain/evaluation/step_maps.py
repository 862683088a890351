"""Compares maps of a step with what the image shows: `python -m diffvis_widget.explain.evaluation.step_maps`.

Held-out renderings with known masks, noised to timestep 399. The paper's DF-RISE and DF-CAM, their repairs, and
baselines are compared with the union of the objects' masks; the first scenes have the slower maps too, and play the
insertion and deletion games with all of them. `--deletion` plays the games with smooth RISE, the objects' masks and the
baselines alone, in three ways, in lines of their own ("games 0"). The measurements are appended to step_maps.jsonl in a
folder, and an interrupted evaluation resumes there; the tables are written to the folder's README.md. 200 scenes take
25 minutes on a free core, and their games 35.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.explain.baseline_maps import baselines
from diffvis_widget.explain.cam import df_cam
from diffvis_widget.explain.insertion_deletion import games
from diffvis_widget.explain.masked_regions import smooth_rise
from diffvis_widget.explain.rise import df_rise
from diffvis_widget.scenes import load
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from diffvis_widget.tracer import fingerprint
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace
from diffvis_widget.traces.results.saliency import scale
from diffvis_widget.traces.types import Floats, Size

from . import report
from .ground_truth import Rendering
from .json_lines import FOLDER, Line, append, resume
from .metrics import localization_scores
from .step_map_table import step_maps

SCENES, GAMES = 200, 30
TIMESTEPS = (399, 299)  # the maps are those of the first; the games step to the second
MASKS = 100
SMOOTH, WORDS, PAPER, NOISE = "RISE, smooth masks", "RISE of the objects' words", "DF-RISE", "DF-RISE, hidden as noise"
CAM, ATTENTION, TRUTH = "DF-CAM", "attention to the objects' words", "the objects' masks"
RULES: dict[str, dict[str, Any]] = {
    "the image one step later, zeros": {},
    "the predicted image, zeros": {"target": "prediction"},
    "the predicted image, noise": {"target": "prediction", "hidden": "noise"},
}
"""How the games are played: which image is compared, and what deletion puts in; the first is the paper's way."""


def measure(pipe: Any, rendering: Rendering, *, played: bool) -> Line:
    """Measure pointing, IoU and average precision of maps of a step; of all of them and the games if requested.

    Args:
        pipe: The scenes pipeline.
        rendering: The scene.
        played: Whether to compute the slower maps too, and to play the games.

    Returns:
        By map: pointing, IoU, average precision and, where played, the AUC of deletion and insertion.
    """
    trace = run(pipe, rendering.scene.caption, **rendering.arguments(pipe, timesteps=list(TIMESTEPS)))
    words = [region.word for region in rendering.regions(trace) if region.role == "object"]
    settings: dict[str, Any] = {"masks": MASKS, "progress": False}
    cam = df_cam(trace, 0)
    maps: dict[str, Floats] = {
        SMOOTH: smooth_rise(trace, 0, **settings).map,
        CAM: cam.map,
        ATTENTION: trace.heat_maps(step=0)[words].sum(axis=0),
        **baselines_of(trace, rendering),
    }
    if played:
        of_words = [scale(smooth_rise(trace, 0, word, **settings).map) for word in words]
        maps[WORDS] = np.stack(of_words).sum(axis=0, dtype=np.float32)
        maps[PAPER] = df_rise(trace, 0, coverage="actual", **settings).map
        maps[NOISE] = df_rise(trace, 0, coverage="actual", hidden="noise", **settings).map
        result = games(trace, 0, maps, progress=False)
        areas = {name: [result.deletion_auc[name], result.insertion_auc[name]] for name in maps}
    else:
        areas = {name: [] for name in maps}
        maps |= {f"{CAM}, {name}": heat for name, heat in cam.layers.items()}
    scores = {
        name: [*localization_scores(heat, rendering.objects), *areas.get(name, [])] for name, heat in maps.items()
    }
    return {"maps": {name: [round(float(value), 3) for value in values] for name, values in scores.items()}}


def play(pipe: Any, rendering: Rendering) -> Line:
    """Play the insertion and deletion games with smooth RISE, the objects' masks and the baselines, in three ways.

    Args:
        pipe: The scenes pipeline.
        rendering: The scene.

    Returns:
        By rules of the games and map: the AUC of deletion and of insertion.
    """
    trace = run(pipe, rendering.scene.caption, **rendering.arguments(pipe, timesteps=list(TIMESTEPS)))
    maps: dict[str, Any] = {
        SMOOTH: smooth_rise(trace, 0, masks=MASKS, progress=False),
        TRUTH: share_of_cells(rendering.objects, rendering.latent_size),
        **baselines_of(trace, rendering),
    }
    areas: dict[str, dict[str, list[float]]] = {}
    for name, rules in RULES.items():
        result = games(trace, 0, maps, progress=False, **rules)
        deletion, insertion = result.deletion_auc, result.insertion_auc
        areas[name] = {heat: [round(deletion[heat], 3), round(insertion[heat], 3)] for heat in deletion}
    return {"games": areas}


def share_of_cells(mask: NDArray[np.bool_], size: Size) -> Floats:
    """Average a mask over the cells of a grid.

    Args:
        mask: bool (H, W), multiples of the sides of the grid.
        size: (h, w) of the grid.

    Returns:
        float32 (h, w), 0..1.
    """
    height, width = size
    cells = mask.reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
    return cells.mean(axis=(1, 3), dtype=np.float32)


def baselines_of(trace: Trace, rendering: Rendering) -> dict[str, Floats]:
    """The maps that know nothing of the model, of the first step.

    Args:
        trace: The run.
        rendering: Its scene.

    Returns:
        Maps by name.
    """
    return baselines(trace.frame("prediction", 0), rendering.latent_size, _generator(trace))


def _generator(trace: Trace) -> np.random.Generator:
    return np.random.default_rng([len(trace.prompt), 0])


def main() -> None:
    """Measure whatever is missing, print the table and write README.md."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation.step_maps", description=__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"number of scenes ({SCENES})", metavar="N")
    parser.add_argument("--games", type=int, default=GAMES, help=f"scenes that play the games ({GAMES})", metavar="N")
    parser.add_argument("--deletion", type=int, default=0, help="scenes that play with smooth RISE (0)", metavar="N")
    parser.add_argument("--first", type=int, default=0, help="first scene to measure or play (0)", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the results ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    path, model = args.folder / "step_maps.jsonl", fingerprint(cast(Any, pipe).unet)
    done = {line["scene"] for line in resume(path, model)}
    scenes = held_out_scenes(max(args.scenes, args.deletion))
    for number in range(args.first, args.scenes):
        if number not in done:
            began = time.monotonic()
            line = measure(pipe, Rendering(pipe, scenes[number], number), played=number < args.games)
            append(path, {"scene": number, "model": model, **line})
            print(f"step maps: scene {number + 1} of {args.scenes}, {time.monotonic() - began:.1f} s", flush=True)
    for number in range(args.first, args.deletion):
        if (name := f"games {number}") not in done:
            append(path, {"scene": name, "model": model, **play(pipe, Rendering(pipe, scenes[number], number))})
            print(f"step maps: {name} of {args.deletion}", flush=True)
    print("\n".join(step_maps(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
