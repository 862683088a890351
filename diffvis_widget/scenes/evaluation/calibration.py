"""Calibrates the scenes CLIP: `python -m diffvis_widget.scenes.evaluation.calibration`.

Held-out captions are generated, two thirds with guidance 7.5 and one third with guidance 1. At twelve of the 30 steps
every shape, colour and setting is scored in the predicted image. Whether it is in the final image, a detector that was
trained on renderings only decides. Each noise level is fitted on the captions with even numbers and tested on the
others. The scores are appended to calibration.jsonl in a folder, where an interrupted run resumes; the calibration of
the even captions is written beside the meter's weights. A caption takes three seconds on a free core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.concepts.calibration import Calibration, fit_level
from diffvis_widget.intervals import proportion_interval
from diffvis_widget.scenes import WEIGHTS, draw, load
from diffvis_widget.scenes.world import COLOURS, SETTINGS, SHAPES
from diffvis_widget.shipped import calibration_file
from diffvis_widget.tracer import Tracer, decode

from .captions import STEPS
from .judge import Verdict, load_judge

FOLDER = Path("benchmarks/scenes")
SETS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS), "setting": tuple(SETTINGS)}
WORDS = tuple(word for words in SETS.values() for word in words)
SCORED = (0, 4, 8, 11, 14, 17, 20, 22, 24, 26, 28, 29)
BATCH = 10
FIRST = 1_002_000  # of the scenes' numbers; other evaluations take those from 1,000,000 on
GUIDANCE = (7.5, 7.5, 1.0)
Line = dict[str, Any]
Bools = NDArray[np.bool_]


def shown_words(verdict: Verdict) -> list[str]:
    """The words of the three sets that an image shows.

    Args:
        verdict: The judge's verdict on it.

    Returns:
        The words, sorted.
    """
    things = [detection.thing for detection in verdict.detections]
    return sorted(
        {word for thing in things for word in (thing.shape, thing.colour) if word}
        | ({verdict.setting} if verdict.setting else set[str]())
    )


def measure(pipe: Any, numbers: Sequence[int], guidance: float) -> list[Line]:
    """Generate captions and score their words.

    Args:
        pipe: The scenes model.
        numbers: Of the captions; also the seeds.
        guidance: The guidance scale.

    Returns:
        For each image: number, guidance, noise levels (12,), upper edge of the null band (12,), cosines (12, words),
        and the words that the final image shows.
    """
    meter, judge = ConceptMeter(), load_judge(WEIGHTS / "judge.safetensors")
    scenes = [draw(FIRST + number, held_out=True) for number in numbers]
    with Tracer(pipe, keep="words") as tracer:
        pipe(
            [scene.caption for scene in scenes],
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(FIRST - 1_000_000 + number) for number in numbers],
        )
    lines: list[Line] = []
    for number, trace in zip(numbers, tracer.traces, strict=True):
        cosine, band = meter.scores(decode(pipe, trace.predictions[list(SCORED)]), list(WORDS))
        lines.append(
            {
                "caption": number,
                "guidance": guidance,
                "sigmas": [round(float(sigma), 4) for sigma in trace.sigmas[list(SCORED)]],
                "band": [round(float(high), 4) for high in band[:, 1]],
                "cosine": [[round(float(value), 4) for value in row] for row in cosine],
                "shown": shown_words(judge.detect(trace.image[None])[0]),
            }
        )
    return lines


def heights(lines: Sequence[Line]) -> tuple[NDArray[np.float64], Bools]:
    """Lay out the scores of captions.

    Args:
        lines: Those captions.

    Returns:
        Cosine minus the upper edge of the null band, float64 (captions, 12, words), and whether each word is in the
        final image, bool (captions, words).
    """
    cosine = np.array([line["cosine"] for line in lines], dtype=np.float64)
    band = np.array([line["band"] for line in lines], dtype=np.float64)
    return cosine - band[:, :, None], np.array([[word in line["shown"] for word in WORDS] for line in lines])


def usable(lines: Iterable[Line]) -> list[Line]:
    """Leave out images on which the judge detects nothing.

    Args:
        lines: Captions.

    Returns:
        Those with words.
    """
    return [line for line in lines if line["shown"]]


def fit(lines: Sequence[Line]) -> Calibration:
    """Fit a calibration.

    Args:
        lines: Captions.

    Returns:
        The calibration of twelve noise levels.
    """
    height, is_shown = heights(lines)
    sigmas = np.median([line["sigmas"] for line in lines], axis=0)
    levels = [fit_level(float(sigma), height[:, step].ravel(), is_shown.ravel()) for step, sigma in enumerate(sigmas)]
    return Calibration(frozenset(WORDS), tuple(levels))


def table(calibration: Calibration, lines: Sequence[Line]) -> str:
    """Test a calibration on captions that it was not fitted on.

    Args:
        calibration: The calibration.
        lines: The captions.

    Returns:
        Markdown: at each noise level, how often "present" and "absent" are said, and how often they are right.
    """
    height, is_shown = heights(lines)
    rows = [
        "| noise over signal | present: right | of present words | absent: right | not sure yet |",
        "|---|---|---|---|---|",
    ]
    for step, level in enumerate(calibration.levels):
        band = np.zeros((len(lines), 2))
        sigmas = np.full(len(lines), level.sigma)
        verdicts = calibration.present(WORDS, height[:, step], band, sigmas)
        present, absent = verdicts == 1, verdicts == 0
        rows.append(
            f"| {level.sigma:.2g} | {_cell(is_shown[present])} | {present[is_shown].mean():.0%} | "
            f"{_cell(~is_shown[absent])} | {np.isnan(verdicts).mean():.0%} |"
        )
    return "\n".join(rows)


def _cell(right: Bools) -> str:
    if not len(right):
        return "never said"
    low, high = proportion_interval(int(right.sum()), len(right))
    return f"{right.mean():.1%} ({low:.1%} to {high:.1%}) of {len(right)}"


def main() -> None:
    """Measure whatever is missing, fit, write the calibration and print the table."""
    parser = argparse.ArgumentParser(prog="python -m diffvis_widget.scenes.evaluation.calibration", description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="captions, a multiple of ten (240)", metavar="N")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"folder of the scores ({FOLDER})")
    args = parser.parse_args()
    path = args.folder / "calibration.jsonl"
    texts = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines: list[Line] = [json.loads(text) for text in texts]
    done = {line["caption"] for line in lines}
    pipe: Any = None
    for batch in range(args.count // BATCH):
        numbers = [number for number in range(batch * BATCH, (batch + 1) * BATCH) if number not in done]
        if numbers:
            pipe = pipe or load()
            measured = measure(pipe, numbers, GUIDANCE[batch % len(GUIDANCE)])
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in measured)
            lines += measured
            print(f"{len(lines)} of {args.count} captions", flush=True)
    fitted, tested = (usable(line for line in lines if line["caption"] % 2 == part) for part in (0, 1))
    calibration = fit(fitted)
    calibration_file().write_text(calibration.to_json(), encoding="utf-8")
    for title, part in (
        ("all", tested),
        *((f"guidance {scale:g}", [line for line in tested if line["guidance"] == scale]) for scale in (7.5, 1.0)),
    ):
        print(f"Fitted on {len(fitted)} captions, tested on {len(part)} others ({title}):\n")
        print(table(calibration, part) if part else "none", end="\n\n")


if __name__ == "__main__":
    main()
