"""The tracer beside its peers: `python -m benchmarks.tracer.peers`. It needs the network once, to install the peers.

A U-Net of the size of Stable Diffusion 1.5 (random weights, float32), 256 px, guided. In each round every method makes
the same run, in another order; the time of a method is that of a step over the plain run's of the same round. The peers
are installed into `.cache/peers`, which is searched after the project's own packages, with their versions as they are.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.tracer.models import stable_diffusion
from benchmarks.tracer.timing import Around, clock, spread, timed
from diffvis_widget.tracer import Tracer
from tests.tracer.test_launches import Counting

PEERS = Path(".cache/peers")
CAPTURE, DAAM = "attention-map-diffusers==1.0.0", "daam==0.2.0"
STEPS = 2


@dataclass(frozen=True)
class Method:
    """around: for a pipeline, what to enter around its call. stored_bytes: after a call. after: computes the maps."""

    around: Callable[[Any], Around]
    stored_bytes: Callable[[Any], int]
    after: Callable[[Any], object] = lambda inside: None


def install() -> str:
    """Installs the peers into their folder. Returns an error message, or an empty string."""
    if (PEERS / "daam").is_dir() and (PEERS / "spacy").is_dir():
        return ""
    installations = [["--no-deps", CAPTURE, DAAM], ["spacy", "matplotlib"]]  # of DAAM's many, those that it imports
    for packages in installations:
        command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--target", str(PEERS)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
    return ""


def _capture(mode: str) -> Callable[[Any], Around]:
    def make(pipe: Any) -> Around:
        # every step, as the tracer keeps; its own default is the last step alone
        capture = importlib.import_module("attention_map_diffusers").AttentionCapture
        return lambda: capture(pipe, relations="image->text", timesteps="all", mode=mode)

    return make


def _daam(pipe: Any) -> Around:
    trace = importlib.import_module("daam").trace
    return lambda: trace(pipe)


METHODS: dict[str, Method] = {
    "plain": Method(lambda pipe: nullcontext, lambda inside: 0),
    "diffvis_widget": Method(
        lambda pipe: lambda: Tracer(pipe),
        lambda tracer: sum(part.nbytes for record in tracer.trace.records for part in record.maps),
        lambda tracer: tracer.trace.heat_map("circle"),
    ),
    f"{CAPTURE}, fast": Method(
        _capture("fast"), lambda capture: capture.collector.capture_bytes, lambda capture: capture.compute()
    ),
    f"{CAPTURE}, exact": Method(
        _capture("exact"), lambda capture: capture.collector.capture_bytes, lambda capture: capture.compute()
    ),
    DAAM: Method(
        _daam,
        lambda trace: sum(value.nbytes for _, value in trace.all_heat_maps),
        # all sizes of maps: it takes the size of the latents from the VAE, which is a small one here
        lambda trace: trace.compute_global_heat_map(factors=range(65)).compute_word_heat_map("circle"),
    ),
}


def operations(pipe: Any, arguments: dict[str, Any], around: Around) -> int:
    """ATen operations that compute something, in one step after the first."""
    counts: list[int] = []

    def note(pipe: Any, index: int, timestep: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        counts.append(counting.seen.total())
        return inputs

    with Counting() as counting, around():
        pipe(
            "a red circle",
            **arguments,
            num_inference_steps=3,
            output_type="latent",
            callback_on_step_end=note,
            generator=torch.Generator().manual_seed(0),
        )
    return counts[2] - counts[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=8)
    rounds: int = parser.parse_args().rounds
    failed = install()
    sys.path.append(str(PEERS))
    pipe, arguments = stable_diffusion()
    small = stable_diffusion(latents=8, width=32)  # as many operations, and quick
    rows: dict[str, list[str]] = {}
    working: dict[str, Around] = {}
    plain = timed(pipe, arguments, steps=STEPS).result
    base = operations(*small, nullcontext)
    for name, method in METHODS.items():
        try:
            around = method.around(pipe)
            done = timed(pipe, arguments, around, STEPS)
            extra = operations(*small, method.around(small[0])) - base
            began = clock()
            method.after(done.inside)
            after = clock() - began
        except (ImportError, AttributeError, RuntimeError, TypeError, ValueError, OSError) as error:
            rows[name] = [f"does not run: {failed or f'{type(error).__name__}: {error}'}".replace("\n", " ")[:160]]
            continue
        working[name] = around
        stored_mb = method.stored_bytes(done.inside) / STEPS / 2**20
        off = float((done.result - plain).abs().max())
        rows[name] = [f"{off:.2g}", f"{stored_mb:.2f} MB", f"+{extra}" if extra else f"{base}", f"{after:.2f} s"]
    ratios: dict[str, list[float]] = {name: [] for name in working}
    for turn in range(rounds):
        names = list(working)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        seconds = {name: timed(pipe, arguments, working[name], STEPS).seconds for name in names}
        for name, method_seconds in seconds.items():
            ratios[name].append(method_seconds / seconds["plain"])
        print(turn + 1, {name: round(value, 2) for name, value in seconds.items()}, file=sys.stderr, flush=True)
    print(f"{rounds} rounds of {STEPS} steps, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| method | CPU time of a step | latents differ by | kept per step | operations per step | maps, after |")
    print("|---|---|---|---|---|---|")
    for name, cells in rows.items():
        time = spread(ratios[name]) if name in working and name != "plain" else "1" if name == "plain" else ""
        print(f"| {name} | {' | '.join([time, *cells])} |")


if __name__ == "__main__":
    main()
