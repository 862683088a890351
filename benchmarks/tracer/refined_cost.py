"""What refined maps cost, which are on by default: `python -m benchmarks.tracer.refined_cost [scenes] [sdxl]`.

Traced runs with and without them alternate, in pairs. scenes: the built-in model. sdxl: a U-Net of SDXL's widths with
one transformer layer in each block in place of 2 and 10 (random weights, float32), 512 px, guided. Prints the median of
the ratios of CPU time with its 95 % interval, and the time that refining itself takes, which other work on the machine
disturbs less.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch

import diffvis_widget as dv
from benchmarks.tracer import models
from benchmarks.tracer.timing import clock, timed
from diffvis_widget.intervals import median_interval
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families.family import Family
from diffvis_widget.tracer.refined_maps import MapRefiner

MODELS: dict[str, tuple[Callable[[], models.Model], int, int]] = {
    "scenes": (lambda: (dv.load(), {"guidance_scale": 7.5}), 15, 11),
    "sdxl": (lambda: models.stable_diffusion_xl(64, layers=(1, 1, 1)), 3, 2),
}
"""By name: the model, the number of pairs and the steps of a run."""


@contextmanager
def without_refined_maps() -> Iterator[None]:
    """No self-attention is read, so that tracers record no refined maps."""
    with patch.object(Family, "refining_modules", lambda family, denoiser: {}):
        yield


@contextmanager
def refining_time() -> Iterator[Callable[[], float]]:
    """Yields a function that returns the seconds spent so far in computing refined maps."""
    spent = 0.0
    original = MapRefiner.add

    def add(refiner: MapRefiner, *arguments: Any) -> None:
        nonlocal spent
        began = clock()
        original(refiner, *arguments)
        spent += clock() - began

    with patch.object(MapRefiner, "add", add):
        yield lambda: spent


def measure_refined(names: list[str], pairs: int | None) -> None:
    """Print the ratios of the time of a step with refined maps to that without, and the time that they take."""
    for name in names or list(MODELS):
        build, usual, steps = MODELS[name]
        pipe, arguments = build()
        pipe.set_progress_bar_config(disable=True)
        latents: set[bytes] = set()

        def run(
            refined: bool, pipe: Any = pipe, arguments: Any = arguments, steps: int = steps, latents: Any = latents
        ) -> float:
            with nullcontext() if refined else without_refined_maps():
                result = timed(pipe, arguments, lambda: Tracer(pipe), steps)
            assert (result.inside.trace.records[-1].refined is not None) == refined
            latents.add(result.result.numpy().tobytes())
            return result.seconds

        for refined in (False, True):
            run(refined)  # warm
        seconds: dict[bool, list[float]] = {False: [], True: []}
        with refining_time() as spent:
            for pair in range(pairs or usual):
                for refined in (True, False) if pair % 2 else (False, True):
                    seconds[refined].append(run(refined))
                print(
                    f"{name}: pair {pair + 1}: {seconds[False][-1]:.3f} s, {seconds[True][-1]:.3f} s refined",
                    flush=True,
                )
            refining = spent() / len(seconds[True]) / steps
        ratios = [above / below for above, below in zip(seconds[True], seconds[False], strict=True)]
        low, high = median_interval(ratios)
        share = refining / statistics.median(seconds[False])
        same = "the same bits" if len(latents) == 1 else "DIFFERENT"
        print(
            f"{name}: refined over without {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}), {len(ratios)} "
            f"pairs of {steps} steps; refining itself {1000 * refining:.1f} ms, {share:.2%} of a step; "
            f"{torch.get_num_threads()} threads; latents {same}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="model", help=" or ".join(MODELS))
    parser.add_argument("--pairs", type=int, help="number of pairs of runs (default: 15 for scenes, 3 for sdxl)")
    options = parser.parse_args()
    measure_refined(options.models, options.pairs)


if __name__ == "__main__":
    main()
