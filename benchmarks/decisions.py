"""When does the scenes model decide what? `python -m benchmarks.decisions`, some 20 minutes on a thread for a guidance.

Each prompt names one thing with a texture, a colour and a shape in a setting. Each of the four words in turn is
exchanged for another of its kind at every step (`dv.decision_curve`), and the step is found from which on that no
longer changes what the finished picture shows: to CLIP, by the share of the one word against the other, and to the
judge, a detector that has seen renderings only. All four share the prompt and the noise, so they are compared in pairs.
What is done is kept in a folder, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import diffvis_widget as dv
from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.evaluation.judge import Verdict, load_judge
from diffvis_widget.scenes.world import COLOURS, SHAPES, TEXTURES

STEPS = 20
READINGS = ("CLIP", "judge")
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


class Eyes:
    """A concept meter that is CLIP for a word, and for "seen KIND WORD" the judge: 1 if it sees that, else 0."""

    label = "scenes CLIP and judge"

    def __init__(self) -> None:
        self._clip = dv.ConceptMeter()
        self._judge = load_judge(WEIGHTS / "judge.safetensors")
        self.share = self._clip.share

    def scores(self, frames: NDArray[np.uint8], concepts: Sequence[str]) -> tuple[NDArray[np.float32], Any]:
        plain = [one for one in concepts if not one.startswith("seen ")]
        cosine, null = self._clip.scores(frames, plain)
        verdicts = self._judge.detect(frames)
        columns = {name: cosine[:, index] for index, name in enumerate(plain)}
        for name in set(concepts) - set(plain):
            _, kind, word = name.split(" ")
            columns[name] = np.array([sees(verdict, kind, word) for verdict in verdicts], dtype=np.float32)
        return np.stack([columns[name] for name in concepts], axis=1), null


def sees(verdict: Verdict, kind: str, word: str) -> bool:
    """Whether the judge sees the word in a picture."""
    if kind == "setting":
        return verdict.setting == word
    return any(getattr(seen.thing, "shape" if kind == "object" else kind) == word for seen in verdict.detections)


def measured(prompts: int, guidance: float, folder: Path) -> dict[str, dict[str, Floats]]:
    """By reading and kind, the decision step of every prompt, NaN where the pictures could not be told apart."""
    pipe, eyes = dv.load(), Eyes()
    found: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in READINGS}
    for seed in range(prompts):
        prompt, drawn = prompt_of(seed)
        for kind, (word, to) in drawn.items():
            curve = dv.decision_curve(
                *(pipe, prompt, word, to),
                steps=STEPS,
                seeds=[seed],
                concepts=[f"seen {kind} {word}", f"seen {kind} {to}"],
                meter=cast(dv.ConceptMeter, eyes),
                path=folder / f"{guidance}-{seed}-{kind}.json",
                progress=False,
                guidance_scale=guidance,
            )
            if not curve.complete:
                raise KeyboardInterrupt
            found["CLIP"][kind].append(curve.decision)
            judged = (1 + curve.cosine[..., 2] - curve.cosine[..., 3]) / 2
            found["judge"][kind].append(replace(curve, share=judged).decision)
        said = (f"{kind} {steps[-1]:.1f} ({found['judge'][kind][-1]:.1f})" for kind, steps in found["CLIP"].items())
        print(f"{seed + 1} of {prompts}: {prompt}: {', '.join(said)}", flush=True)
    return {name: {kind: np.array(steps) for kind, steps in kinds.items()} for name, kinds in found.items()}


def interval(values: Floats) -> str:
    """Mean with its 95 % interval: bootstrap over prompts."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return "–"
    draws = known[np.random.default_rng(0).integers(0, len(known), (10_000, len(known)))].mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{known.mean():.1f} ({low:.1f} to {high:.1f})"


def markdown_table(found: dict[str, dict[str, Floats]], guidance: float, noise: Floats) -> str:
    """Both tables as markdown."""
    count = len(found["CLIP"]["setting"])
    lines = [
        f"{count} prompts, one seed each, {STEPS} steps, guidance {guidance:g}.",
        "",
        "| kind | decided at step, by CLIP | by the judge | noise over signal there | told apart, by CLIP and judge |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        clip, judge = found["CLIP"][kind], found["judge"][kind]
        told = [int(np.isfinite(steps).sum()) for steps in (clip, judge)]
        level = np.exp(np.interp(np.nanmean(clip), np.arange(len(noise)), np.log(noise)))
        lines.append(
            f"| {kind} | {interval(clip)} | {interval(judge)} | {level:.2f} | {told[0]} and {told[1]} of {count} |"
        )
    lines += [
        "",
        "| compared, in the same prompts | steps later, by CLIP | by the judge | later in, by CLIP | by the judge |",
        "|---|---|---|---|---|",
    ]
    for later, sooner in PAIRS:
        cells: list[str] = []
        shares: list[str] = []
        for reading in READINGS:
            apart = found[reading][later] - found[reading][sooner]
            apart = apart[np.isfinite(apart)]
            cells.append(interval(apart))
            shares.append(f"{int((apart > 0).sum())} of {len(apart)}")
        lines.append(f"| {later} after {sooner} | {' | '.join(cells + shares)} |")
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
    print(markdown_table(found, chosen.guidance, sample.sigmas.astype(np.float64)))


if __name__ == "__main__":
    main()
