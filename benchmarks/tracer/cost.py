"""The cost of tracing: `python -m benchmarks.tracer.cost [sd] [flux] [wan] [wan-5] [qwen]`.

sd: a U-Net of the size of Stable Diffusion 1.5 (random weights, float32), 256 px, guided. flux: a joint block of the
size of FLUX.1, 4096 image tokens and 512 text tokens. wan: a block of the size of Wan 2.1 1.3B, 17 x 30 x 52 tokens;
wan-5: the same with 5 x 30 x 52, which takes a sixth of the time. qwen: a joint block of the size of Qwen-Image, 4096
image tokens, not guided.

Plain and traced runs alternate, in pairs. Prints the median of the ratios of CPU time with their interquartile range;
for sd and wan-5 also the share of a step that the tracer's own code takes (`benchmarks.tracer.tracer_time`); the size
of the maps per step; how many operations of torch a step has more; and the peak memory of a process that traces over
that of one that does not, and what is between them.
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
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.tracer import models
from benchmarks.tracer.timing import Around, spread, timed
from benchmarks.tracer.tracer_time import measure_tracer_time
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.families import Family


def qwen(latents: int = 128) -> models.Model:
    """A block of Qwen-Image, one evaluation for each step."""
    pipe, arguments = models.qwen_image(1, latents)
    return pipe, {name: value for name, value in arguments.items() if name != "negative_prompt"} | {
        "true_cfg_scale": 1.0
    }


MODELS: dict[str, Callable[[], models.Model]] = {
    "sd": models.stable_diffusion,
    "flux": models.flux,
    "wan": lambda: models.wan(1),
    "wan-5": lambda: models.wan(1, 5),
    "qwen": qwen,
}
PAIRS = {"sd": 12, "flux": 4, "wan": 2, "wan-5": 15, "qwen": 15}
# the number of operations does not depend on the size
SMALL: dict[str, Callable[[], models.Model]] = {
    "sd": lambda: models.stable_diffusion(8),
    "flux": lambda: models.flux(latents=8),
    "wan": lambda: models.wan(1, 3, 8, 8),
    "wan-5": lambda: models.wan(1, 3, 8, 8),
    "qwen": lambda: qwen(8),
}


class Operations(TorchDispatchMode):
    """Counts the operations that reach a kernel."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(name: str) -> tuple[int, int]:
    """Operations of torch in a plain step, and how many a traced one has more: of three steps less those of two."""
    pipe, arguments = SMALL[name]()

    def count(steps: int, around: Around) -> int:
        with Operations() as counted:
            timed(pipe, arguments, around, steps)
        return counted.count

    counts: list[int] = []
    for around in (nullcontext, lambda: Tracer(pipe)):
        timed(pipe, arguments, around, 2)
        counts.append(count(3, around) - count(2, around))
    return counts[0], counts[1] - counts[0]


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
    parser.add_argument(
        "--no-refined",
        action="store_true",
        help="leave out refined maps, which one layer of a model computes, and which a model of one block pays in full",
    )
    parser.add_argument("--no-peak", action="store_true", help="leave out peak memory, which takes two more processes")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.no_refined:
        Family.refining_modules = lambda self, denoiser: {}  # type: ignore[method-assign]
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
        if name in ("sd", "wan-5"):  # wan would take long
            share = own_share(pipe, arguments, around)
            print(f"{name}: the tracer's own code takes {share:.2%} of a step", flush=True)
        del pipe, tracer
        plain_count, more = operations(name)
        print(
            f"{name}: time x {spread(ratios)}, {len(ratios)} pairs, {torch.get_num_threads()} threads; maps {size:.2f} "
            f"MB a step; {more} operations more than {plain_count} a step",
            flush=True,
        )
        if not options.no_peak:
            plain, traced = peak(name, False), peak(name, True)
            more_memory = (traced - plain) / 2**20
            print(f"{name}: peak memory x {traced / plain:.3f}, {more_memory:.0f} MB more", flush=True)


if __name__ == "__main__":
    main()
