"""What tracing costs: `python -m benchmarks.tracer.cost [sd] [flux]`. Plain and traced runs alternate, in pairs.

sd: a U-Net of Stable Diffusion 1.5's size (random weights, float32), 256 px, guided. flux: one joint block of FLUX.1's
size, 4096 image and 512 text positions. Prints the median of the pairs' ratios of CPU time with the range of the middle
half, of sd also the share of a step that the tracer's own code takes (`benchmarks.tracer.own`), what is kept per step,
and the peak memory of a process that traces over that of one that does not.
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
from benchmarks.tracer.own import own_time
from benchmarks.tracer.timing import Around, spread, timed
from diffvis_widget.tracer import Tracer

MODELS: dict[str, Callable[[], models.Model]] = {"sd": models.stable_diffusion, "flux": models.flux}
PAIRS = {"sd": 12, "flux": 4}


def peak(name: str, traced: bool) -> int:
    """Peak memory in bytes of a process of its own that makes one run."""
    command = [sys.executable, "-m", "benchmarks.tracer.cost", name, "--peak", str(int(traced))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_share(pipe: Any, arguments: dict[str, Any], around: Around) -> float:
    """What the tracer's own code takes of a step: four more steps take so much more."""
    taken: list[float] = []
    seconds = 1.0
    with own_time() as own:
        for steps in (2, 6):
            before = own()
            seconds = timed(pipe, arguments, around, steps).seconds
            taken.append(own() - before)
    return (taken[1] - taken[0]) / 4 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", metavar="model", default=list(MODELS), help=" or ".join(MODELS))
    parser.add_argument("--pairs", type=int, help="of runs: 12 of sd and 4 of flux if not given")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for name in chosen.models:
        pipe, arguments = MODELS[name]()

        def around(pipe: object = pipe) -> Tracer:
            return Tracer(pipe)

        if chosen.peak is not None:
            timed(pipe, arguments, around if chosen.peak else nullcontext)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        tracer = timed(pipe, arguments, around).inside  # warm
        kept = sum(part.nbytes for part in tracer.trace.records[-1].maps) / 2**20
        ratios: list[float] = []
        for pair in range(chosen.pairs or PAIRS[name]):
            order = (True, False) if pair % 2 else (False, True)
            seconds = {one: timed(pipe, arguments, around if one else nullcontext).seconds for one in order}
            ratios.append(seconds[True] / seconds[False])
            print(f"{name}: pair {pair + 1}: {seconds[False]:.2f} s plain, {seconds[True]:.2f} s traced", flush=True)
        if name == "sd":
            share = own_share(pipe, arguments, around)
            print(f"{name}: the tracer's own code takes {share:.2%} of a step", flush=True)
        del pipe, tracer
        memory = peak(name, True) / peak(name, False)
        print(
            f"{name}: time x {spread(ratios)}, {len(ratios)} pairs, {torch.get_num_threads()} threads; maps {kept:.2f} "
            f"MB a step; peak memory x {memory:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
