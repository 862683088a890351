"""Speed of the scenes model, each figure beside its required value: `python -m benchmarks.scenes.speed`.

Medians of several runs, after a warm-up run, with the steps and the guidance of the evaluation. The speed of matrix
products is printed first, on one thread and on all: two virtual cores may be a shared one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffvis_widget.scenes import load
from diffvis_widget.scenes.architecture import MAX_TOKENS
from diffvis_widget.scenes.evaluation.captions import GUIDANCE, STEPS

PROMPT = "a red circle above a blue square at night"
# milliseconds; the last two show what an image's time is made of
REQUIRED = {
    "an image": 1500.0,
    "the first step, after the text is encoded": 60.0,
    "decoding one frame": 60.0,
    "one evaluation of the U-Net, both branches": None,
    "one evaluation of one branch, latents of 4 x 4": None,
}


def measure(pipe: Any) -> dict[str, float]:
    """Milliseconds of an image, of its first step, of decoding it and of single evaluations of the U-Net."""
    text, negative = pipe.encode_prompt(PROMPT, torch.device("cpu"), 1, True)
    ends: list[float] = []

    def on_step_end(*arguments: Any) -> dict[str, Any]:
        ends.append(time.perf_counter())
        return arguments[-1]

    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "latent"}
    began = time.perf_counter()
    (latents,) = pipe(
        prompt_embeds=text, negative_prompt_embeds=negative, callback_on_step_end=on_step_end, **settings
    )[:1]
    first = ends[0] - began
    began = time.perf_counter()
    with torch.no_grad():
        pipe.vae.decode(latents / pipe.vae.config["scaling_factor"])
    decoding = time.perf_counter() - began
    began = time.perf_counter()
    pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE)
    whole = time.perf_counter() - began
    both = evaluation(pipe.unet, latents.repeat(2, 1, 1, 1), torch.cat([negative, text]))
    least = evaluation(pipe.unet, latents[..., :4, :4], text)
    return dict(zip(REQUIRED, (1000 * value for value in (whole, first, decoding, both, least)), strict=True))


def evaluation(unet: Any, latents: torch.Tensor, text: torch.Tensor) -> float:
    """Seconds of one noise prediction; the median of 10."""
    times: list[float] = []
    for _ in range(10):
        began = time.perf_counter()
        with torch.no_grad():
            unet(latents, torch.tensor(500), encoder_hidden_states=text)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def operations(unet: Any) -> int:
    """Floating-point operations in the products and convolutions of one evaluation of the U-Net with both branches."""
    side = unet.config.sample_size
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        text = torch.zeros(2, MAX_TOKENS, unet.config.cross_attention_dim)
        unet(torch.zeros(2, unet.config.in_channels, side, side), torch.tensor(500), encoder_hidden_states=text)
    return counter.get_total_flops()


def products(threads: int, side: int = 1024) -> float:
    """Billions of floating-point operations per second in products of two float32 matrices; the median of 50."""
    torch.set_num_threads(threads)
    a = torch.randn(side, side)
    times: list[float] = []
    for _ in range(50):
        began = time.perf_counter()
        torch.mm(a, a)
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scenes.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rates = [products(threads) for threads in (1, args.threads)]
    torch.set_num_threads(args.threads)
    pipe = load()
    measure(pipe)
    measurements = [measure(pipe) for _ in range(args.runs)]
    print(f"matrix products: {rates[0]:.0f} GFLOP/s on one thread, {rates[1]:.0f} on {args.threads}")
    print(f"one evaluation of the U-Net, both branches: {operations(pipe.unet) / 1e9:.2f} GFLOP")
    print(f"{STEPS} steps, guidance {GUIDANCE}, {args.threads} threads; milliseconds, {args.runs} runs")
    print("| measure | median | slowest | required |")
    print("|---|---|---|---|")
    for name, required in REQUIRED.items():
        times = [measurement[name] for measurement in measurements]
        limit = "" if required is None else f"{required:.0f}"
        print(f"| {name} | {statistics.median(times):.0f} | {max(times):.0f} | {limit} |")


if __name__ == "__main__":
    main()
