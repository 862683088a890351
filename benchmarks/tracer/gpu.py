"""The cost of tracing on a GPU: `python -m benchmarks.tracer.gpu` (`make bench-gpu`); it ends where there is none.

Models of full size with random weights in bfloat16: Stable Diffusion 1.5 at 512 px, SDXL, Stable Diffusion 3.5 Large,
FLUX.1 and Qwen-Image at 1024 px. The last needs about 45 GB; `--models SDXL` takes one, and `--blocks 4 8` fewer of the
19 double and 38 single blocks of FLUX.1.
Then, for each attention kernel that returns its log-sum-exp, whether its output is bit for bit that of the public
function, and whether its normaliser is right, which the tracer checks too before it uses a kernel.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import date
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.tracer import models
from benchmarks.tracer.timing import spread, timed
from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.attention_calls import AttentionCall
from diffvis_widget.tracer.log_sum_exp import attend

KERNELS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
# batch, heads, positions, width
SHAPES = {"FLUX.1, 1024 px": (1, 24, 4608, 128), "Stable Diffusion 3, 1024 px": (2, 24, 4429, 64)}


def costs(pipe: Any, arguments: dict[str, Any], pairs: int, steps: int) -> str:
    """Cells of the table: milliseconds of a plain step, ratios of times and of peak memory, latents, maps per step."""
    timed(pipe, arguments, lambda: Tracer(pipe), steps)  # warms up, and checks the kernels
    ratios: list[float] = []
    plain: list[float] = []
    peaks: dict[bool, int] = {}
    latents: dict[bool, torch.Tensor] = {}
    size = 0
    for pair in range(pairs):
        seconds: dict[bool, float] = {}
        for traced in (True, False) if pair % 2 else (False, True):
            torch.cuda.reset_peak_memory_stats()
            around = (lambda: Tracer(pipe)) if traced else nullcontext
            done = timed(pipe, arguments, around, steps)
            seconds[traced], peaks[traced] = done.seconds, torch.cuda.max_memory_allocated()
            latents[traced] = done.result
            if traced:
                record = done.inside.trace.records[-1]
                size = sum(part.nbytes for part in (*record.maps, *(record.refined or ())))
        ratios.append(seconds[True] / seconds[False])
        plain.append(seconds[False])
    same = "same bits" if torch.equal(latents[True], latents[False]) else "OTHER BITS"
    milliseconds = 1000 * statistics.median(plain)
    memory = peaks[True] / peaks[False]
    return f"{milliseconds:.1f} ms | {spread(ratios)} | {memory:.3f} | {same} | {size / 2**20:.2f} MB"


def kernels(device: str, shapes: dict[str, tuple[int, int, int, int]] = SHAPES) -> Iterator[tuple[str, str, str, str]]:
    """(shape, dtype, kernel, outcome)."""
    for title, shape in shapes.items():
        for dtype in (torch.bfloat16, torch.float16):
            q, k, v = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
            for kernel in KERNELS:
                with sdpa_kernel(kernel):
                    try:
                        output, lse = attend(AttentionCall(q, k, v), lambda: F.scaled_dot_product_attention(q, k, v))  # noqa: B023
                        plain = F.scaled_dot_product_attention(q, k, v)
                    except RuntimeError:  # not supported on this device
                        outcome = "not supported on this device"
                    else:
                        same = "same bits" if torch.equal(output, plain) else "OTHER BITS"
                        outcome = f"{same}, {'log-sum-exp used' if lse is not None else 'log-sum-exp not used'}"
                yield title, str(dtype).removeprefix("torch."), kernel.name, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--blocks", type=int, nargs=2, default=[19, 38], metavar=("DOUBLE", "SINGLE"))
    parser.add_argument("--models", nargs="*", metavar="PART", help="only the models with such a part in their names")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("bench-gpu: no CUDA device was found; nothing was measured")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {date.today()}, {options.pairs} pairs")
    print("| model | plain step | traced over plain | peak memory | latents | maps per step |")
    print("|---|---|---|---|---|---|")
    half = models.Where("cuda", torch.bfloat16)
    double, single = options.blocks
    built: dict[str, Callable[[], models.Model]] = {
        "Stable Diffusion 1.5, 512 px": lambda: models.stable_diffusion(64),
        "SDXL, 1024 px": lambda: models.stable_diffusion_xl(where=half),
        "Stable Diffusion 3.5 Large, 1024 px": lambda: models.stable_diffusion_3(where=half),
        f"FLUX.1 ({double} + {single} blocks), 1024 px": lambda: models.flux(double, single, where=half),
        "Qwen-Image, 1024 px": lambda: models.qwen_image(where=half),
    }
    for name, build in built.items():
        if options.models and not any(part in name for part in options.models):
            continue
        pipe, arguments = build()
        pipe = pipe.to("cuda", half.dtype)
        print(f"| {name} | {costs(pipe, arguments, options.pairs, options.steps)} |", flush=True)
        del pipe
        gc.collect()
        torch.cuda.empty_cache()
    print("\n| shape | dtype | kernel | outcome |\n|---|---|---|---|")
    for row in kernels("cuda"):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
