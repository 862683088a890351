"""The cost of tracing: `python -m benchmarks.tracer.cost [sd] [flux]`. Plain and traced runs alternate, in pairs.

sd: a U-Net of the size of Stable Diffusion 1.5 (random weights, float32), 256 px, guided. flux: a joint block of the
size of FLUX.1, 4096 image tokens and 512 text tokens. Prints the median of the ratios of CPU time with their
interquartile range; for sd also the share of a step that the tracer's own code takes (`benchmarks.tracer.tracer_time`);
the size of the maps per step; and the peak memory of a process that traces over that of one that does not.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.tracer import models
from benchmarks.tracer.timing import Around, spread, timed
from benchmarks.tracer.tracer_time import measure_tracer_time
from diffvis_widget.tracer import Tracer

MODELS: dict[str, Callable[[], models.Model]] = {"sd": models.stable_diffusion, "flux": models.flux}
PAIRS = {"sd": 12, "flux": 4}


def peak(name: str, traced: bool) -> int:
    """Peak memory in bytes of a separate process that makes a single run."""
    command = [sys.executable, "-m", "benchmarks.tracer.cost", name, "--peak", str(int(traced))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_share(pipe: Any, arguments: dict[str, Any], around: Around) -> float:
    """The share of a step that the tracer's own code takes, from runs of six and of two steps."""
    spent: list[float] = []
    seconds = 1.0
    with measure_tracer_time() as seconds_spent:
        for steps in (2, 6):
            before = seconds_spent()
            seconds = timed(pipe, arguments, around, steps).seconds
            spent.append(seconds_spent() - before)
    return (spent[1] - spent[0]) / 4 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="model", default=list(MODELS), help=" or ".join(MODELS))
    parser.add_argument("--pairs", type=int, help="number of pairs of runs (default: 12 for sd, 4 for flux)")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.models:
        pipe, arguments = MODELS[name]()

        def around(pipe: object = pipe) -> Tracer:
            return Tracer(pipe)

        if options.peak is not None:
            timed(pipe, arguments, around if options.peak else nullcontext)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        tracer = timed(pipe, arguments, around).inside  # warm
        size = sum(part.nbytes for part in tracer.trace.records[-1].maps) / 2**20
        ratios: list[float] = []
        for pair in range(options.pairs or PAIRS[name]):
            order = (True, False) if pair % 2 else (False, True)
            seconds = {traced: timed(pipe, arguments, around if traced else nullcontext).seconds for traced in order}
            ratios.append(seconds[True] / seconds[False])
            print(f"{name}: pair {pair + 1}: {seconds[False]:.2f} s plain, {seconds[True]:.2f} s traced", flush=True)
        if name == "sd":
            share = own_share(pipe, arguments, around)
            print(f"{name}: the tracer's own code takes {share:.2%} of a step", flush=True)
        del pipe, tracer
        memory = peak(name, True) / peak(name, False)
        print(
            f"{name}: time x {spread(ratios)}, {len(ratios)} pairs, {torch.get_num_threads()} threads; maps {size:.2f} "
            f"MB a step; peak memory x {memory:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
