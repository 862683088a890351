"""When does the scenes model decide what? `python -m benchmarks.decisions`, about a quarter of an hour on one thread.

Each prompt names one thing with a texture, a colour and a shape in a setting. Each of the four words in turn is
exchanged for another of its kind at every step (`dv.decision_curve`), and the step is found from which on that no
longer changes what the finished picture shows. All four share the prompt and the noise, so they are compared in pairs.
What is done is kept in a folder, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import diffvis_widget as dv
from diffvis_widget.scenes.world import COLOURS, SHAPES, TEXTURES

STEPS = 20
KINDS = ("setting", "object", "colour", "texture")
# settings that are said with the same little word, so that one word is exchanged and no more
PLACES = {"at": ("night", "sea", "sunset"), "on": ("grass", "sand")}
PAIRS = (
    ("object", "setting"), ("colour", "setting"), ("texture", "setting"), ("colour", "object"), ("texture", "object"),
    ("texture", "colour"),
)  # fmt: skip
Floats = NDArray[np.float64]


def prompt_of(seed: int) -> tuple[str, dict[str, tuple[str, str]]]:
    """A prompt, and by kind the word of that kind and what takes its place."""
    rng = np.random.default_rng(seed)
    how = str(rng.choice(list(PLACES)))
    options = {"setting": PLACES[how], "object": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES}
    drawn: dict[str, tuple[str, str]] = {}
    for kind in KINDS:
        first, second = rng.choice(options[kind], 2, replace=False)
        drawn[kind] = str(first), str(second)
    word = {kind: pair[0] for kind, pair in drawn.items()}
    return f"a {word['texture']} {word['colour']} {word['object']} {how} {word['setting']}", drawn


def measured(prompts: int, guidance: float, folder: Path) -> dict[str, Floats]:
    """By kind, the decision step of every prompt, NaN where the finished pictures could not be told apart."""
    pipe, meter = dv.load(), dv.ConceptMeter()
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(prompts):
        prompt, drawn = prompt_of(seed)
        for kind, (word, to) in drawn.items():
            curve = dv.decision_curve(
                *(pipe, prompt, word, to),
                steps=STEPS,
                seeds=[seed],
                meter=meter,
                path=folder / f"{guidance}-{seed}-{kind}.json",
                progress=False,
                guidance_scale=guidance,
            )
            if not curve.complete:
                raise KeyboardInterrupt
            found[kind].append(curve.decision)
        print(
            f"{seed + 1} of {prompts}: {prompt}: {', '.join(f'{k} {v[-1]:.1f}' for k, v in found.items())}", flush=True
        )
    return {kind: np.array(steps) for kind, steps in found.items()}


def interval(values: Floats) -> str:
    """Mean with its 95 % interval: bootstrap over prompts."""
    known = values[np.isfinite(values)]
    draws = known[np.random.default_rng(0).integers(0, len(known), (10_000, len(known)))].mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{known.mean():.1f} ({low:.1f} to {high:.1f})"


def table(found: dict[str, Floats], guidance: float, noise: Floats) -> str:
    """Both tables as markdown."""
    lines = [
        f"{len(found['setting'])} prompts, one seed each, {STEPS} steps, guidance {guidance}.",
        "",
        "| kind | decided at step | noise over signal there | half of the prompts between | told apart |",
        "|---|---|---|---|---|",
    ]
    for kind, steps in found.items():
        known = steps[np.isfinite(steps)]
        low, high = np.percentile(known, (25, 75))
        level = np.exp(np.interp(known.mean(), np.arange(len(noise)), np.log(noise)))
        lines.append(
            f"| {kind} | {interval(steps)} | {level:.2f} | {low:.1f} and {high:.1f} | {len(known)} of {len(steps)} |"
        )
    lines += [
        "",
        "| compared, in the same prompts | steps later | later in | prompts |",
        "|---|---|---|---|",
    ]
    for later, sooner in PAIRS:
        apart = (found[later] - found[sooner])[np.isfinite(found[later]) & np.isfinite(found[sooner])]
        lines.append(f"| {later} after {sooner} | {interval(apart)} | {(apart > 0).mean():.0%} | {len(apart)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=36)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "diffvis-decisions")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(chosen.prompts, chosen.guidance, chosen.folder)
    sample = dv.trace(dv.load(), "a red circle", seed=0, num_inference_steps=STEPS)
    print(table(found, chosen.guidance, sample.sigmas.astype(np.float64)))


if __name__ == "__main__":
    main()
