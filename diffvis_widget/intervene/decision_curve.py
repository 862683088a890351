"""When was it decided? A word is exchanged at every step in turn, and the finished pictures are asked what they show.

Exchanging it before the decision changes the picture, exchanging it afterwards does not: where the curve crosses
half-way, the word stopped mattering. That is causal, where a meter or a heat map only goes along.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.concepts.meter import check_concepts
from diffvis_widget.explain.arguments import count
from diffvis_widget.explain.progress import Progress, tracking
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.tracer import denoiser_lock, fingerprint, private_copy
from diffvis_widget.tracer.preview import to_pixels
from diffvis_widget.traces.prompt_words import split_words

from .batched_switch import fork
from .engine import on

Floats = NDArray[np.float32]
_DRAWS = 2000  # of the bootstrap
_BATCH = 32


@dataclass(frozen=True)
class DecisionCurve:
    """What the finished pictures show, by the step at which a word was exchanged.

    prompt, other: the two prompts. word, to: the word and what took its place. steps: of each run.
    switch: int64 (K,), the step from which `other` was in force: 0 is a run of `other` alone, `steps` one of `prompt`.
    seeds: int64 (S,). concepts: C words, `word` and `to` first. cosine: float32 (S, K, C) of the final pictures, NaN
    where a run was not made. share: float32 (S, K), 0..1: of `word` against `to`, softmax with the meter's logit scale.
    """

    prompt: str
    other: str
    word: str
    to: str
    steps: int
    switch: NDArray[np.int64]
    seeds: NDArray[np.int64]
    concepts: list[str]
    cosine: Floats
    share: Floats

    @property
    def complete(self) -> bool:
        """Whether every run was made."""
        return not np.isnan(self.share).any()

    @property
    def mean(self) -> Floats:
        """float32 (K,): mean share over the seeds that are done; NaN where there is none."""
        return _mean(self.share[self._done])

    @property
    def band(self) -> Floats:
        """float32 (K, 2): 95 % interval of the mean share, bootstrap over seeds; NaN for fewer than two seeds."""
        if self._done.sum() < 2:
            return np.full((len(self.switch), 2), np.nan, dtype=np.float32)
        means = np.stack([self.share[chosen].mean(axis=0) for chosen in self._draws()])
        return np.percentile(means, (2.5, 97.5), axis=0).T.astype(np.float32)

    @property
    def decision(self) -> float:
        """The step at which the mean share crosses half-way between its two ends, interpolated between steps.

        NaN where the ends lie so close (less than 0.2 apart) that the meter cannot tell the two prompts' pictures.
        """
        return _crossing(self.switch, self.mean)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `decision`: bootstrap over seeds; NaN for fewer than two seeds."""
        if self._done.sum() < 2:
            return float("nan"), float("nan")
        found = np.array([_crossing(self.switch, self.share[chosen].mean(axis=0)) for chosen in self._draws()])
        found = found[np.isfinite(found)]
        if len(found) < _DRAWS // 2:  # most samples of the seeds show no decision at all
            return float("nan"), float("nan")
        low, high = np.percentile(found, (2.5, 97.5))
        return float(low), float(high)

    @property
    def decisions(self) -> Floats:
        """float32 (S,): the decision step of each seed alone; NaN as for `decision`, and where it is not done."""
        return np.array([_crossing(self.switch, row) for row in self.share], dtype=np.float32)

    @property
    def _done(self) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(self.share).any(axis=1))

    def _draws(self) -> NDArray[np.int64]:
        """Seeds drawn with replacement, (draws, seeds), always the same."""
        rows = np.flatnonzero(self._done)
        return rows[np.random.default_rng(0).integers(0, len(rows), (_DRAWS, len(rows)))]


def decision_curve(
    pipe: Any,
    prompt: str,
    word: str,
    to: str,
    *,
    steps: int = 30,
    seeds: int | Sequence[int] = 8,
    switch: Sequence[int] | None = None,
    concepts: Sequence[str] = (),
    meter: ConceptMeter | None = None,
    batch: int | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: Progress = True,
    **pipe_kwargs: Any,
) -> DecisionCurve:
    """For each step k, the run in which `to` takes the place of `word` at step k: what do the final pictures show?

    All runs of one seed are made together: at a step, those that were not switched yet are one and the same, and the
    denoiser is asked once for all of them, about half of the work.

    prompt: a text with `word` in it; every occurrence is exchanged. to: any words. steps: of each run. seeds: how many
    (0, 1, ...), or which. switch: the steps k to try, 0 to `steps`; all of them if None. concepts: more words to score.
    meter: as for `concept_scores`. batch: pictures made at once; None chooses. path: a file that keeps what is done: if
    it is there, the same curve goes on where it stopped. progress: True, False, or a function of (done, total) that may
    raise to stop. pipe_kwargs: to the pipeline's call (guidance_scale=, height=, ...).

    An interrupt (KeyboardInterrupt) returns what is done so far, with NaN for the rest, if a run was finished.

    Raises TypeError and ValueError for arguments that cannot be used, KeyError for a word that is not in the prompt
    (naming those that are), ValueError for a path that keeps another curve, and what the run of the switch raises.
    """
    before, after = _exchanged(prompt, word, to)
    total = count("steps", steps)
    starts = _seeds(seeds)
    points = _points(switch, total)
    words = check_concepts([word, to, *concepts])
    if len(words) < 2:
        raise ValueError(f"to must be another word than word: both are {word!r}")
    size = _BATCH if batch is None else count("batch", batch)
    for name in ("prompt", "generator", "num_inference_steps", "num_images_per_prompt", "latents", "output_type"):
        if name in pipe_kwargs:
            raise TypeError(f"{name}= is set by decision_curve itself")
    meter = _meter(pipe, meter)
    held = Path(path) if path is not None else None
    asked = {
        "prompt": before, "other": after, "steps": total, "switch": points, "seeds": starts, "concepts": words,
        "model": fingerprint(pipe), "meter": meter.label,
        "call": hashlib.sha256(repr(sorted(pipe_kwargs.items())).encode()).hexdigest()[:16],
    }  # fmt: skip
    cosine = _resumed(held, asked)
    with tracking(progress, int(cosine.shape[0] * cosine.shape[1]), "decision_curve") as tell:
        tell(int(np.isfinite(cosine[..., 0]).sum()))
        try:
            for row, seed in enumerate(starts):
                todo = [index for index in range(len(points)) if np.isnan(cosine[row, index, 0])]
                for begin in range(0, len(todo), size):
                    part = todo[begin : begin + size]
                    pictures = _pictures(pipe, before, after, seed, total, [points[one] for one in part], pipe_kwargs)
                    cosine[row, part] = meter.scores(pictures, words)[0]
                    _keep(held, asked, cosine)
                    tell(len(part))
        except KeyboardInterrupt:
            if np.isnan(cosine).all():
                raise
    share = np.stack([meter.share(one[:, :2])[:, 0] for one in cosine])
    return DecisionCurve(
        before, after, word, to, total, np.array(points, np.int64), np.array(starts, np.int64), words, cosine, share
    )


def _pictures(
    pipe: Any, prompt: str, other: str, seed: int, steps: int, points: Sequence[int], pipe_kwargs: dict[str, Any]
) -> NDArray[np.uint8]:
    """The final pictures of one seed, switched at each of these steps, uint8 (len(points), H, W, 3)."""
    with denoiser_lock(pipe):
        clone = private_copy(pipe)
        clone.set_progress_bar_config(disable=True)
        generators = [torch.Generator("cpu").manual_seed(seed) for _ in points]
        if isinstance(negative := pipe_kwargs.get("negative_prompt"), str):
            pipe_kwargs = {**pipe_kwargs, "negative_prompt": [negative] * len(points)}
        with torch.no_grad(), on(clone, fork(other, points)):
            found = clone(
                prompt=[prompt] * len(points),
                num_inference_steps=steps,
                generator=generators,
                output_type="pt",
                **pipe_kwargs,
            ).images
    return to_pixels(torch.as_tensor(found) * 2 - 1)


def _exchanged(prompt: Any, word: Any, to: Any) -> tuple[str, str]:
    for name, text in (("prompt", prompt), ("word", word), ("to", to)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text, not {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"{name} is empty")
    spans = split_words(prompt)
    wanted = [word[start:end].casefold() for start, end in split_words(word)]
    texts = [prompt[start:end].casefold() for start, end in spans]
    places = [at for at in range(len(texts)) if texts[at : at + len(wanted)] == wanted]
    if not places:
        there = ", ".join(repr(prompt[start:end]) for start, end in spans)
        raise KeyError(f"word {word!r} is not in the prompt; its words are: {there}")
    after = prompt
    for at in reversed(places):
        after = after[: spans[at][0]] + to.strip() + after[spans[at + len(wanted) - 1][1] :]
    if after.casefold() == prompt.casefold():
        raise ValueError(f"to must be another word than word: both are {word!r}")
    return prompt, after


def _seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, list | tuple | range | np.ndarray):
        found = [count("seeds", one, least=0) for one in seeds]  # pyright: ignore[reportUnknownVariableType]
        if not found or len(set(found)) < len(found):
            raise ValueError(f"seeds must name one seed or more, each once, not {found!r}")
        return found
    return list(range(count("seeds", seeds)))


def _points(switch: Sequence[int] | None, steps: int) -> list[int]:
    if switch is None:
        return list(range(steps + 1))
    found = [count("switch", one, least=0) for one in switch]
    if not found or found != sorted(set(found)) or found[-1] > steps:
        raise ValueError(f"switch must be rising steps from 0 to {steps}, not {found!r}")
    return found


def _meter(pipe: Any, meter: ConceptMeter | None) -> ConceptMeter:
    if meter is not None:
        return meter
    if not is_scenes_model(fingerprint(pipe)):
        raise ValueError(
            "meter=None is for the built-in scenes model; for this pipeline choose one, such as "
            'ConceptMeter("ViT-B-32", pretrained="laion2b_s34b_b79k")'
        )
    return ConceptMeter()


# -- what is done, kept in a file --------------------------------------------------------------------------------------


def _resumed(path: Path | None, asked: dict[str, Any]) -> Floats:
    """The cosines so far: those in the file, or NaN. Raises ValueError for the file of another curve."""
    shape = len(asked["seeds"]), len(asked["switch"]), len(asked["concepts"])
    if path is None or not path.exists():
        return np.full(shape, np.nan, dtype=np.float32)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        kept = np.array(held["cosine"], dtype=np.float32)
        own = held["asked"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: {path} holds no decision curve; give another path") from error
    different = [name for name in asked if own.get(name) != asked[name]]
    if different or kept.shape != shape:
        raise ValueError(
            f"path: {path} keeps another curve (its {', '.join(different) or 'size'} differs); give another path, or "
            "delete it"
        )
    return kept


def _keep(path: Path | None, asked: dict[str, Any], cosine: Floats) -> None:
    """Write what is done, whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[[None if np.isnan(one) else float(one) for one in point] for point in row] for row in cosine]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"asked": asked, "cosine": rows}, file)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


# -- where a curve crosses ---------------------------------------------------------------------------------------------


def _mean(rows: Floats) -> Floats:
    return rows.mean(axis=0) if len(rows) else np.full(rows.shape[1], np.nan, dtype=np.float32)


def _crossing(points: NDArray[np.int64], curve: Floats) -> float:
    """Where the curve last rises through the middle of its two ends.

    From there on it stays above: the word held from then on, whatever came before.
    """
    if np.isnan(curve).any() or curve[-1] - curve[0] < 0.2:
        return float("nan")
    middle = (curve[0] + curve[-1]) / 2
    below = int(np.flatnonzero(curve < middle)[-1])
    part = (middle - curve[below]) / (curve[below + 1] - curve[below])
    return float(points[below] + part * (points[below + 1] - points[below]))
