"""What batching and one pass save: `python -m benchmarks.explain.speed`. Both ways alternate, in pairs, in one run.

DF-RISE, 500 masks of one step: the published code's way hides latents one mask at a time and decodes each result; here
masks run in batches, and nothing is decoded. Relevance over 30 steps: the published code makes a whole generation for
every step; here there is one. Prints the median of the pairs' ratios with their range, whether the maps are the same,
and what stopping at convergence saves on top; and makes the table part of the folder's page.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diffvis_widget as dv
from diffvis_widget.explain import df_rise, relevance, similarity
from diffvis_widget.explain.evaluation import report
from diffvis_widget.explain.evaluation.json_lines import FOLDER, Line, append
from diffvis_widget.explain.relevance_pass import AttentionModules, relevance_maps
from diffvis_widget.explain.text_encoder import TextEncoderPass
from diffvis_widget.tracer import Denoiser, denoiser, denoiser_lock
from diffvis_widget.tracer.families import find_family
from diffvis_widget.traces import Trace

PROMPT = "a red circle above a blue square in the snow"
STEP, SEED = 10, 7
REQUIRED = {"cpu": (3.0, 10.0), "cuda": (20.0, 10.0)}
Maps = np.ndarray[Any, Any]


def masks_one_by_one(trace: Trace, masks: int) -> Maps:
    """Compute DF-RISE as its authors' code does, one mask at a time.

    Each mask takes a denoising step of its own, which is decoded; outputs are compared by structure, as in the paper.
    """
    probe = denoiser(trace, STEP)
    latents = probe.latents
    rng = np.random.default_rng(SEED)
    height, width = latents.shape[2:]
    total = np.zeros((height, width))
    for _ in range(masks):
        mask = torch.from_numpy(rng.random((1, 1, height, width)) < 0.5).to(latents)
        output = probe(latents * mask)
        trace.decode(probe.advance(latents * mask, output).cpu().numpy())
        total += mask[0, 0].cpu().numpy() * similarity(probe.output, output, "structure")[0].cpu().numpy()
    return total / (masks * 0.5)


def one_generation_per_step(pipe: Any, trace: Trace, steps: int) -> Maps:
    """Relevance (T, words) with a generation (plain, unwatched) before each look back."""
    length = 1 + max(token for word in trace.words for token in word.tokens)
    family, module = find_family(pipe)
    modules = AttentionModules.of(module, family)
    rows: list[Maps] = []
    for step in range(steps):
        pipe(PROMPT, num_inference_steps=steps, generator=torch.Generator().manual_seed(SEED), output_type="latent")
        with denoiser_lock(pipe), TextEncoderPass(pipe, family, PROMPT, {}) as text:
            tokens = relevance_maps([Denoiser(trace, step)], modules, text, length, 32)[0].sum(axis=(1, 2))
        rows.append(np.array([tokens[list(word.tokens)].sum() for word in trace.words]))
    return np.stack(rows)


def compare(what: str, naive: Callable[[], Maps], ours: Callable[[], Maps], required: float, pairs: int) -> Line:
    """Time both, in pairs, each first in turn."""
    times: list[tuple[float, float]] = []
    work: list[float] = []
    off = 0.0
    for pair in range(pairs):
        seconds: dict[int, float] = {}
        busy: dict[int, float] = {}
        results: dict[int, Maps] = {}
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            began, worked = time.perf_counter(), time.process_time()
            results[which] = (naive, ours)[which]()
            seconds[which], busy[which] = time.perf_counter() - began, time.process_time() - worked
        times.append((seconds[0], seconds[1]))
        work.append(busy[0] / busy[1])
        off = max(off, float(np.abs(results[1] - results[0]).max() / np.abs(results[0]).max()))
        print(f"{what}: pair {pair + 1}: {seconds[0]:.2f} s and {seconds[1]:.2f} s", flush=True)
    ratios = [naive / fast for naive, fast in times]
    line: Line = {
        "what": what,
        "naive": statistics.median(naive for naive, _ in times),
        "ours": statistics.median(two for _, two in times),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "work": statistics.median(work),
        "pairs": pairs,
        "bar": required,
        "same": f"to {off:.0e} of the largest value",
    }
    print(
        f"{what}: x {line['ratio']:.1f} ({line['low']:.1f} to {line['high']:.1f}), x {line['work']:.1f} in CPU "
        f"time; required x {required:g}: {'met' if line['ratio'] >= required else 'missed'}; same maps {line['same']}"
    )
    return line


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain.speed", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--masks", type=int, default=500)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", choices=list(REQUIRED), default="cpu")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"of results and page ({FOLDER})")
    args = parser.parse_args()
    pipe: Any = dv.load().to(args.device)
    pipe.set_progress_bar_config(disable=True)
    trace = dv.trace(pipe, PROMPT, seed=SEED, num_inference_steps=args.steps)
    machine = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rise_ratio, relevance_ratio = REQUIRED[args.device]

    def rise(**more: Any) -> Any:
        return df_rise(trace, STEP, args.masks, **{"tolerance": 0, "seed": SEED, "progress": False} | more)

    def in_one_pass() -> Maps:
        run = relevance(pipe, PROMPT, seed=SEED, num_inference_steps=args.steps, progress=False)
        return run.raw

    df_rise(trace, STEP, 32, progress=False)  # warm
    lines = [
        compare(
            f"DF-RISE, {args.masks} masks ({machine})",
            lambda: masks_one_by_one(trace, args.masks),
            lambda: rise().map,
            rise_ratio,
            args.pairs,
        ),
        compare(
            f"relevance, {args.steps} steps ({machine})",
            lambda: one_generation_per_step(pipe, trace, args.steps),
            in_one_pass,
            relevance_ratio,
            args.pairs,
        ),
    ]
    stopped = rise(tolerance=0.05, coverage="actual")
    whole = rise(coverage="actual").map
    alike = float(np.corrcoef(whole.ravel(), stopped.map.ravel())[0, 1])
    print(f"stopping at convergence: {stopped.masks_used} of {args.masks} masks, correlation {alike:.2f}")
    lines[0]["stopped"] = {"masks": stopped.masks_used, "of": args.masks, "correlation": alike}
    path = args.folder / "speed.jsonl"
    path.unlink(missing_ok=True)
    for line in lines:
        append(path, line)
    report.write(args.folder)


if __name__ == "__main__":
    main()
