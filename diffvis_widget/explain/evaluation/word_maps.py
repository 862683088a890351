"""Compares ways to make a word's map: `python -m diffvis_widget.explain.evaluation.word_maps`.

Held-out renderings with known masks, noised to ten levels and evaluated once at each: the map of each word is compared
with the word's mask, step by step, and as the mean over the steps. With `--existing`, each rendering is given to
`dv.trace_image` as an image that exists. The measurements are appended to word_maps.jsonl (image_maps.jsonl) in a
folder, and an interrupted evaluation resumes there; the tables are written to the folder's README.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.explain.baseline_maps import averaged, baselines
from diffvis_widget.scenes import load
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from diffvis_widget.tracer import fingerprint, trace_image
from diffvis_widget.tracer import trace as run
from diffvis_widget.tracer.hooks import watch
from diffvis_widget.traces import Trace
from diffvis_widget.traces.guided_resize import guided_resize
from diffvis_widget.traces.types import Floats

from . import report
from .ground_truth import GUIDANCE, Region, Rendering
from .json_lines import FOLDER, Line, append, resume
from .measures import STEPS, daam
from .metrics import localization_scores
from .word_map_tables import EXISTING, RUNS, word_maps

SCENES = 200
GUIDED, REFINED, AMONG = "refined, at the image's size", "refined", "refined, among things and setting"
DEFAULT, DAAM, ALL = "attention, default layers", "attention, DAAM", "attention, all layers"
OUTPUT, LAST, TRUTH = "output space, softmax over words", "attention, all layers, last step", "the truth on the grid"
RANDOM, EDGE = "random", "edge"


@contextmanager
def record_output_scores(cells: int) -> Iterator[list[Floats]]:
    """Record a score in output space of cross-attention layers with a given number of positions.

    In cross-attention words have no attention output. The nearest thing to ConceptAttention (arXiv 2502.04320) is the
    product of the output of an image position with a token's value, which is what the token would add to it.

    Args:
        cells: Number of positions.

    Yields:
        The list to which each call appends the scores of the conditional branch, float32 (cells, text tokens).
    """
    recorded: list[Floats] = []

    def watcher(
        original: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any
    ) -> Tensor:
        output = original(query, key, value, *args, **kw)
        if query.shape[2] == cells != key.shape[2]:
            scores = output[-1].float() @ value[-1].float().mT
            recorded.append(scores.sum(dim=0).numpy())
        return output

    end = watch(F, "scaled_dot_product_attention", watcher)
    try:
        yield recorded
    finally:
        end()


def measure(pipe: Any, rendering: Rendering, *, existing: bool = False) -> Line:
    """Measure pointing, IoU and average precision of the words' maps, for each role and method.

    Args:
        pipe: The scenes pipeline.
        rendering: The scene.
        existing: Whether to trace the rendering by `trace_image`, at the same levels.

    Returns:
        Timesteps and, per role, the number of words, their mean share of the image and, per method, values
        (3, STEPS + 1): one column a step, the last one for the mean of all steps' maps.
    """
    size = rendering.latent_size
    with record_output_scores(size[0] * size[1]) as scores:
        trace = _of_image(pipe, rendering) if existing else _of_run(pipe, rendering)
    outputs = _output_shares(trace, np.stack(scores).reshape(STEPS, -1, *scores[0].shape).mean(axis=1))
    regions = rendering.regions(trace)
    values: dict[str, dict[str, list[NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(list))
    for step_maps in _maps(trace, regions, outputs):
        for method, maps in step_maps.items():
            for heat, region in zip(maps, regions, strict=True):
                values[region.role][method].append(np.array(localization_scores(heat, region.mask)))
    result: Line = {"timesteps": [int(timestep) for timestep in trace.timesteps], "roles": {}}
    for role, methods in values.items():
        of_role = [region for region in regions if region.role == role]
        tables = {
            name: np.reshape(parts, (STEPS + 1, len(of_role), 3)).mean(axis=1).T for name, parts in methods.items()
        }
        result["roles"][role] = {
            "words": len(of_role),
            "share": round(float(np.mean([region.mask.mean() for region in of_role])), 4),
            "values": {name: np.round(table, 3).tolist() for name, table in tables.items()},
        }
    return result


def _of_run(pipe: Any, rendering: Rendering) -> Trace:
    return run(pipe, rendering.scene.caption, **rendering.arguments(pipe, STEPS))


def _of_image(pipe: Any, rendering: Rendering) -> Trace:
    """The trace of the rendering as an image that exists, at the levels of a run."""
    scene = rendering.scene
    pipe.scheduler.set_timesteps(STEPS)
    levels = [int(level) for level in pipe.scheduler.timesteps]
    return trace_image(pipe, scene.image, scene.caption, timesteps=levels, seed=rendering.seed, guidance_scale=GUIDANCE)


def _maps(trace: Trace, regions: list[Region], outputs: Floats) -> Iterator[dict[str, Sequence[Floats]]]:
    """Of each method, the maps of the regions' words, step by step, and then their means over the steps."""
    words = [region.word for region in regions]
    size = (int(outputs.shape[2]), int(outputs.shape[3]))
    things = [region.word for region in regions if region.role in ("object", "setting")]
    truth = [averaged(region.mask.astype(np.float64), size).astype(np.float32) for region in regions]
    last = trace.heat_maps(step=-1, layer="all")[words]
    steps = range(len(trace.steps))
    of_steps = {
        REFINED: np.stack([trace.heat_maps(step=step, kind="refined")[words] for step in steps]),
        DEFAULT: np.stack([trace.heat_maps(step=step)[words] for step in steps]),
        DAAM: np.stack([daam(trace, step, size)[words] for step in steps]),
        ALL: np.stack([trace.heat_maps(step=step, layer="all")[words] for step in steps]),
        OUTPUT: outputs[:, words],
    }
    for step in (*steps, None):
        image = trace.frame("prediction", -1 if step is None else step)
        blind = baselines(image, size, np.random.default_rng([len(trace.prompt), step or 0]))
        maps = {method: parts.mean(axis=0) if step is None else parts[step] for method, parts in of_steps.items()}
        among = [trace.heat_map(word, step=step, kind="refined", among=things) for word in words]
        of_methods: list[tuple[str, Sequence[Floats]]] = [
            (GUIDED, list(guided_resize(maps[REFINED], image))),
            (AMONG, among),
            *((method, list(part)) for method, part in maps.items()),
            (LAST, list(last)),
            (TRUTH, truth),
            *((name, [blind[name]] * len(words)) for name in (EDGE, RANDOM)),
        ]
        yield dict(of_methods)


def _output_shares(trace: Trace, scores: Floats) -> Floats:
    """Softmax over the typed words of scores (steps, cells, text tokens), float32 (steps, words, h, w)."""
    means = [scores[:, :, list(word.tokens)].mean(axis=2) for word in trace.words]
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word"]
    exponentials = np.exp(np.stack(means, axis=1) - np.max([means[index] for index in typed], axis=0)[:, None])
    shares = exponentials / exponentials[:, typed].sum(axis=1, keepdims=True)
    return shares.reshape(*shares.shape[:2], *trace.latents.shape[-2:]).astype(np.float32)


def main() -> None:
    """Measure whatever is missing, print the tables and write README.md."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.explain.evaluation.word_maps", description=__doc__)
    parser.add_argument("--scenes", type=int, default=SCENES, help=f"number of scenes ({SCENES})", metavar="N")
    parser.add_argument("--existing", action="store_true", help="trace the renderings as images that exist")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the results ({FOLDER})")
    args = parser.parse_args()
    pipe = load()
    path, model = args.folder / (EXISTING if args.existing else RUNS), fingerprint(cast(Any, pipe).unet)
    done = {line["scene"] for line in resume(path, model)}
    for number, scene in enumerate(held_out_scenes(args.scenes)):
        if number not in done:
            began = time.monotonic()
            line = measure(pipe, Rendering(pipe, scene, number), existing=args.existing)
            append(path, {"scene": number, "model": model, **line})
            print(f"word maps: scene {number + 1} of {args.scenes}, {time.monotonic() - began:.1f} s", flush=True)
    print("\n".join(word_maps(args.folder)))
    report.write(args.folder)


if __name__ == "__main__":
    main()
