"""When the scenes model decides what: `python -m benchmarks.decisions`; some 20 minutes on one thread.

Each prompt names an object with a texture, a colour and a shape in a setting. Each of the four words in turn is
replaced by another of its kind at every step (`dv.decision_curve`), to find the step from which on that no longer
changes what the final image shows: according to CLIP, by the share of one word against the other, and according to
the judge, a detector that was trained on renderings only. All four share the prompt and the noise, so they are
compared in pairs. It is a study, with a row for each prompt and kind; an interrupted one resumes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import diffvis_widget as dv
from diffvis_widget.intervals import median_interval
from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.evaluation.judge import Verdict, load_judge
from diffvis_widget.scenes.world import COLOURS, SHAPES, TEXTURES

STEPS = 20
READINGS = ("CLIP", "judge")
KINDS = ("setting", "object", "colour", "texture")
# Settings with the same preposition, so that a single word is replaced.
PLACES = {"at": ("night", "sea", "sunset"), "on": ("grass", "sand")}
PAIRS = (
    ("object", "setting"), ("colour", "setting"), ("texture", "setting"), ("colour", "object"), ("texture", "object"),
    ("texture", "colour"),
)  # fmt: skip
Floats = NDArray[np.float64]


def prompt_of(seed: int) -> tuple[str, dict[str, tuple[str, str]]]:
    """A prompt, and for each kind its word and the replacement."""
    rng = np.random.default_rng(seed)
    how = str(rng.choice(list(PLACES)))
    options = {"setting": PLACES[how], "object": SHAPES, "colour": tuple(COLOURS), "texture": TEXTURES}
    drawn: dict[str, tuple[str, str]] = {}
    for kind in KINDS:
        first, second = rng.choice(options[kind], 2, replace=False)
        drawn[kind] = str(first), str(second)
    word = {kind: pair[0] for kind, pair in drawn.items()}
    return f"a {word['texture']} {word['colour']} {word['object']} {how} {word['setting']}", drawn


class JudgeMeter:
    """A concept meter: CLIP for a word, and the judge for "seen KIND WORD": 1 if it detects that, else 0."""

    label = "scenes CLIP and judge"

    def __init__(self) -> None:
        self._clip = dv.ConceptMeter()
        self._judge = load_judge(WEIGHTS / "judge.safetensors")
        self.share = self._clip.share

    def scores(self, frames: NDArray[np.uint8], concepts: Sequence[str]) -> tuple[NDArray[np.float32], Any]:
        plain = [name for name in concepts if not name.startswith("seen ")]
        cosine, null = self._clip.scores(frames, plain)
        verdicts = self._judge.detect(frames)
        columns = {name: cosine[:, index] for index, name in enumerate(plain)}
        for name in set(concepts) - set(plain):
            _, kind, word = name.split(" ")
            columns[name] = np.array([sees(verdict, kind, word) for verdict in verdicts], dtype=np.float32)
        return np.stack([columns[name] for name in concepts], axis=1), null


def sees(verdict: Verdict, kind: str, word: str) -> bool:
    """Whether the judge detects the word in an image."""
    if kind == "setting":
        return verdict.setting == word
    return any(
        getattr(detection.thing, "shape" if kind == "object" else kind) == word for detection in verdict.detections
    )


def study_of(prompts: int, guidance: float, out: Path) -> dv.Study:
    """A row for each prompt and kind of word, with the curve of its decision."""
    drawn = [(seed, *prompt_of(seed)) for seed in range(prompts)]
    rows = [
        {"prompt": prompt, "seed": seed, "kind": kind, "word": word, "to": to}
        for seed, prompt, pairs in drawn
        for kind, (word, to) in pairs.items()
    ]
    options = {"meter": JudgeMeter, "concepts": ["seen {kind} {word}", "seen {kind} {to}"]}
    arguments = {"num_inference_steps": STEPS, "guidance_scale": guidance}
    return dv.study(None, rows, measures={"decision": options}, out=out, **arguments)


def decisions_of(study: dv.Study) -> dict[str, dict[str, Floats]]:
    """By meter and kind, the decision step of every prompt; NaN where the meter cannot tell the images apart."""
    table = study.table()
    rows = table.to_pylist()
    judged = [judged_step(row) for row in rows]
    steps = dict(zip(READINGS, (np.array([row["decision_step"] for row in rows]), np.array(judged)), strict=True))
    kinds = np.array([row["kind"] for row in rows])
    return {name: {kind: values[kinds == kind] for kind in KINDS} for name, values in steps.items()}


def judged_step(row: dict[str, Any]) -> float:
    """The decision step by the judge: 1 where only the word is seen, 0 where only the other one is."""
    cosine = np.array(row["decision_cosine"], dtype=np.float32).T[None]
    judged = (1 + cosine[..., 2] - cosine[..., 3]) / 2
    switch = np.array(row["decision_switch"], dtype=np.int64)
    texts = row["prompt"], row["prompt"], row["word"], row["to"]
    names = row["decision_concepts"]
    return dv.DecisionCurve(*texts, STEPS, switch, np.array([row["seed"]]), names, cosine, judged).decision


def interval(values: Floats) -> str:
    """Median with its 95 % interval over prompts."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "–"
    low, high = median_interval(finite)
    bounds = f" ({low:.1f} to {high:.1f})" if np.isfinite(low) else ""
    return f"{np.median(finite):.1f}{bounds}"


def markdown_table(decisions: dict[str, dict[str, Floats]], guidance: float, noise: Floats) -> str:
    """Both tables as markdown."""
    count = len(decisions["CLIP"]["setting"])
    lines = [
        f"{count} prompts, one seed each, {STEPS} steps, guidance {guidance:g}.",
        "",
        "| kind | decided after (steps), by CLIP | by the judge | noise over signal then "
        "| told apart, by CLIP and judge |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS:
        clip, judge = decisions["CLIP"][kind], decisions["judge"][kind]
        counts = [int(np.isfinite(steps).sum()) for steps in (clip, judge)]
        level = np.exp(np.interp(np.nanmedian(clip), np.arange(len(noise)), np.log(noise)))
        lines.append(
            f"| {kind} | {interval(clip)} | {interval(judge)} | {level:.2f} | {counts[0]} and {counts[1]} of {count} |"
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
            gaps = decisions[reading][later] - decisions[reading][sooner]
            gaps = gaps[np.isfinite(gaps)]
            cells.append(interval(gaps))
            shares.append(f"{int((gaps > 0).sum())} of {len(gaps)}")
        lines.append(f"| {later} after {sooner} | {' | '.join(cells + shares)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=36)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "diffvis-decisions")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    study = study_of(chosen.prompts, chosen.guidance, chosen.folder / f"guidance-{chosen.guidance:g}")
    decisions = decisions_of(study)
    sample = dv.trace(dv.load(), "a red circle", seed=0, num_inference_steps=STEPS)
    print(markdown_table(decisions, chosen.guidance, sample.sigmas.astype(np.float64)))


if __name__ == "__main__":
    main()
