"""What tracing costs: `python -m benchmarks.tracer.cost [sd] [flux]`. Plain and traced runs alternate, in pairs.

sd: a U-Net of Stable Diffusion 1.5's size (random weights, float32), 256 px, guided. flux: one joint block of FLUX.1's
size, 4096 image and 512 text positions. Prints the median of the pairs' ratios with the range of the middle half, what
is kept per step, and the peak memory of a process that traces over that of one that does not.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

PROMPT = "a red circle above a small blue square in the snow"


def stable_diffusion() -> tuple[Any, dict[str, Any]]:
    """The pipeline with a full-size U-Net; its other parts are small, for they are not what is measured."""
    from diffusers import StableDiffusionPipeline

    from tests import pipelines

    config: dict[str, Any] = {
        "sample_size": 64,
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    parts = pipelines._parts(0, 768, **config)
    pipe: Any = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    return pipe, {"height": 64, "width": 64, "guidance_scale": 7.5}  # the small VAE halves: 32 x 32 latents


def flux() -> tuple[Any, dict[str, Any]]:
    """The pipeline with one full-size joint block."""
    from tests.pipelines_dit import FAMILIES

    pipe = FAMILIES["flux"].build()
    config: dict[str, Any] = dict(pipe.transformer.config)
    sizes = {"num_layers": 1, "num_single_layers": 0, "attention_head_dim": 128, "num_attention_heads": 24}
    config |= {**sizes, "axes_dims_rope": (16, 56, 56)}
    pipe.transformer = FluxTransformer2DModel(**{k: v for k, v in config.items() if not k.startswith("_")}).eval()
    side = 64 * 2 * pipe.vae_scale_factor
    arguments = {**FAMILIES["flux"].arguments, "height": side, "width": side, "max_sequence_length": 512}
    arguments.pop("num_inference_steps")
    return pipe, arguments


MODELS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {"sd": stable_diffusion, "flux": flux}


def run(pipe: Any, arguments: dict[str, Any], traced: bool) -> tuple[float, Any]:
    """Seconds between the end of the first step and that of the second, and the trace."""
    from diffvis_widget.tracer import Tracer

    times: list[float] = []

    def stamp(pipe: Any, index: int, timestep: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        times.append(time.perf_counter())
        return inputs

    call = {**arguments, "num_inference_steps": 2, "output_type": "latent", "callback_on_step_end": stamp}
    if not traced:
        pipe(prompt=PROMPT, **call)
        return times[1] - times[0], None
    with Tracer(pipe) as tracer:
        pipe(prompt=PROMPT, **call)
    return times[1] - times[0], tracer.trace


def peak(name: str, traced: bool) -> int:
    """Peak memory in bytes of a process of its own that makes one run."""
    command = [sys.executable, "-m", "benchmarks.tracer.cost", name, "--peak", str(int(traced))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", choices=[*MODELS, []], default=list(MODELS))
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    for name in chosen.models:
        pipe, arguments = MODELS[name]()
        pipe.set_progress_bar_config(disable=True)
        if chosen.peak is not None:
            run(pipe, arguments, bool(chosen.peak))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            return
        run(pipe, arguments, True)  # warm
        ratios: list[float] = []
        trace: Any = None
        for pair in range(chosen.pairs):
            first, second = (run(pipe, arguments, traced) for traced in ((True, False) if pair % 2 else (False, True)))
            plain, traced = (second, first) if pair % 2 else (first, second)
            ratios.append(traced[0] / plain[0])
            trace = traced[1]
            low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
            print(f"{name}: pair {pair + 1}: {plain[0]:.2f} s plain, {traced[0]:.2f} s traced", flush=True)
        kept = sum(part.nbytes for part in trace.records[-1].maps) / 2**20
        del pipe
        memory = peak(name, True) / peak(name, False)
        print(
            f"{name}: time x {statistics.median(ratios):.3f} (middle half {low:.3f} to {high:.3f}, "
            f"{chosen.pairs} pairs, {torch.get_num_threads()} threads); maps {kept:.2f} MB a step; "
            f"peak memory x {memory:.3f}"
        )


if __name__ == "__main__":
    main()
