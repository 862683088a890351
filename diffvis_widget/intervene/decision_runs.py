"""Measures when a word is decided: runs that replace it at every step in turn, and what their final images show.

Replacing a word before its decision changes the image, replacing it afterwards does not. The curve crosses its middle
where the word stops mattering. That is a causal measure; concept scores and heat maps are correlations.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffvis_widget.arguments import MAX_SEED, MAX_STEPS, count, file_path, function, items, optional_batch
from diffvis_widget.concepts import ConceptMeter, default_meter
from diffvis_widget.concepts.meter import check_concepts, check_meter
from diffvis_widget.explain.progress import Progress, check_progress, tracking
from diffvis_widget.shipped import is_scenes_model
from diffvis_widget.tracer import (
    check_call_arguments,
    denoiser_lock,
    fingerprint,
    hide_progress_bars,
    private_copy,
    take_guidance,
    to_pixels,
)
from diffvis_widget.traces.file.whole_file import check_destination, write_bytes_whole
from diffvis_widget.traces.prompt_words import fold_word, split_words

from .batched_switch import fork
from .decision_curves import DecisionCurve, Floats
from .engine import on

_BATCH = 32
MAX_SEEDS = 100_000


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
    on_image: Callable[[int, int, NDArray[np.uint8]], object] | None = None,
    **pipe_kwargs: Any,
) -> DecisionCurve:
    """For each step k, generate the image of a run in which `to` replaces `word` at step k, and score it.

    All runs of a seed are made in batches. Until their switch they are equal, and the denoiser evaluates one of them
    for all: about half of the work. A KeyboardInterrupt returns what is finished, with NaN for the rest, if any run is.

    Args:
        pipe: A diffusers pipeline.
        prompt: A text with `word` in it; every occurrence is replaced.
        word: The word to replace.
        to: Any other words.
        steps: Number of denoising steps of each run.
        seeds: How many (0, 1, ...), or which.
        switch: The steps k to try, rising from 0 to `steps`; None for all of them.
        concepts: More words to score.
        meter: As for `concept_scores`.
        batch: Number of images generated at once; None chooses.
        path: A file that stores what is finished. If it exists, the same curve continues where it stopped.
        progress: True, False, or a function of (done, total) that may raise to cancel.
        on_image: Called with each final image that is made: the seed, the step of the switch, and the image, uint8
            (H, W, 3).
        **pipe_kwargs: Arguments of the pipeline call (`guidance_scale`, `height`, ...).

    Returns:
        The curve.

    Raises:
        TypeError: An argument has the wrong type, or is set by this function itself.
        ValueError: An argument is out of its range, or the file at `path` stores another curve.
        KeyError: The word is not in the prompt.

    Example:
        >>> import diffvis_widget as dv
        >>> curve = dv.decision_curve(
        ...     dv.load(), "a red circle", "red", "blue", steps=2, seeds=1, switch=[0, 2], progress=False
        ... )
        >>> curve.share.shape
        (1, 2)
        >>> images = {}
        >>> curve = dv.decision_curve(
        ...     dv.load(), "a red circle", "red", "blue", steps=2, seeds=1, switch=[1], progress=False,
        ...     on_image=lambda seed, step, image: images.update({(seed, step): image}),
        ... )
        >>> images[0, 1].shape
        (96, 96, 3)
    """
    before, after = _replaced(prompt, word, to)
    total = count("steps", steps, 1, MAX_STEPS)
    starts = _seeds(seeds)
    points = _points(switch, total)
    words = check_concepts([word, to, *check_concepts(concepts)])
    if len(words) < 2:
        raise ValueError(f"to must differ from word: both are {word!r}")
    size = optional_batch(batch) or _BATCH
    check_progress(progress)
    file = None if path is None else file_path("path", path)
    for name in ("prompt", "generator", "num_inference_steps", "num_images_per_prompt", "latents", "output_type"):
        if name in pipe_kwargs:
            raise TypeError(f"{name}= is set by decision_curve itself: leave it out (steps= and seeds= are its own)")
    if on_image is not None:
        function("on_image", on_image, "a function of (seed, step, image), or None")
    check_call_arguments(pipe, pipe_kwargs, modifies=True)
    meter = _meter(pipe, meter)
    settings = {
        "prompt": before, "other": after, "steps": total, "switch": points, "seeds": starts, "concepts": words,
        "model": fingerprint(pipe), "meter": meter.label,
        "call": hashlib.sha256(repr(sorted(pipe_kwargs.items())).encode()).hexdigest()[:16],
    }  # fmt: skip
    cosine = _resumed(file, settings)
    with tracking(progress, int(cosine.shape[0] * cosine.shape[1]), "decision_curve") as report:
        report(int(np.isfinite(cosine[..., 0]).sum()))
        try:
            for row, seed in enumerate(starts):
                todo = [index for index in range(len(points)) if np.isnan(cosine[row, index, 0])]
                for begin in range(0, len(todo), size):
                    part = todo[begin : begin + size]
                    images = _images(pipe, before, after, seed, total, [points[index] for index in part], pipe_kwargs)
                    cosine[row, part] = meter.scores(images, words)[0]
                    _store(file, settings, cosine)
                    for index, image in zip(part, images, strict=True):
                        if on_image is not None:
                            on_image(seed, points[index], image)
                    report(len(part))
        except KeyboardInterrupt:
            if np.isnan(cosine).all():
                raise
    share = np.stack([meter.share(scores[:, :2])[:, 0] for scores in cosine])
    return DecisionCurve(
        before, after, word, to, total, np.array(points, np.int64), np.array(starts, np.int64), words, cosine, share
    )


def _images(
    pipe: Any, prompt: str, other: str, seed: int, steps: int, points: Sequence[int], pipe_kwargs: dict[str, Any]
) -> NDArray[np.uint8]:
    """The final images of one seed, switched at each of these steps, uint8 (len(points), H, W, 3)."""
    with denoiser_lock(pipe):
        clone = private_copy(pipe)
        hide_progress_bars(clone)
        generators = [torch.Generator("cpu").manual_seed(seed) for _ in points]
        if isinstance(negative := pipe_kwargs.get("negative_prompt"), str):
            pipe_kwargs = {**pipe_kwargs, "negative_prompt": [negative] * len(points)}
        arguments = {
            **pipe_kwargs,
            "prompt": [prompt] * len(points),
            "num_inference_steps": steps,
            "generator": generators,
            "output_type": "pt",
        }
        take_guidance(clone, arguments)
        with torch.no_grad(), on(clone, fork(other, points)):
            images = clone(**arguments).images
    return to_pixels(torch.as_tensor(images) * 2 - 1)


def _replaced(prompt: Any, word: Any, to: Any) -> tuple[str, str]:
    for name, text, example in (("prompt", prompt, "a red circle"), ("word", word, "red"), ("to", to, "blue")):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a text, not {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"{name} is empty: it must be a text such as {example!r}")
    spans = split_words(prompt)
    target = [fold_word(word[start:end]) for start, end in split_words(word)]
    texts = [fold_word(prompt[start:end]) for start, end in spans]
    positions = [at for at in range(len(texts)) if texts[at : at + len(target)] == target]
    if not positions:
        words = ", ".join(repr(prompt[start:end]) for start, end in spans)
        raise KeyError(f"word {word!r} is not in the prompt; its words are: {words}")
    after = prompt
    for at in reversed(positions):
        after = after[: spans[at][0]] + to.strip() + after[spans[at + len(target) - 1][1] :]
    if after.casefold() == prompt.casefold():
        raise ValueError(f"to must differ from word: both are {word!r}")
    return prompt, after


def _seeds(seeds: Any) -> list[int]:
    if isinstance(seeds, list | tuple | range | np.ndarray):
        numbers = [count("seeds", seed, 0, MAX_SEED) for seed in seeds]  # pyright: ignore[reportUnknownVariableType]
        if not numbers or len(set(numbers)) < len(numbers):
            raise ValueError(f"seeds must name one seed or more, each once, not {numbers!r}")
        return numbers
    return list(range(count("seeds", seeds, 1, MAX_SEEDS)))


def _points(switch: Sequence[int] | None, steps: int) -> list[int]:
    if switch is None:
        return list(range(steps + 1))
    points = [count("switch", point, 0, steps) for point in items("switch", switch, "a list of steps, or None")]
    if not points or points != sorted(set(points)):
        raise ValueError(f"switch must be rising steps from 0 to {steps}, not {points!r}")
    return points


def _meter(pipe: Any, meter: ConceptMeter | None) -> ConceptMeter:
    check_meter(meter)
    if meter is not None:
        return meter
    if not is_scenes_model(fingerprint(pipe)):
        raise ValueError(
            "meter=None is for the built-in scenes model; for this pipeline choose one, such as "
            'ConceptMeter("ViT-B-32", pretrained="laion2b_s34b_b79k")'
        )
    return default_meter()


# -- the file ----------------------------------------------------------------------------------------------------------


def _resumed(path: Path | None, settings: dict[str, Any]) -> Floats:
    """The cosines so far: those in the file, or NaN. Raises ValueError for the file of another curve."""
    shape = len(settings["seeds"]), len(settings["switch"]), len(settings["concepts"])
    if path is None or not path.exists():
        return np.full(shape, np.nan, dtype=np.float32)
    check_destination(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        cosine = np.array(stored["cosine"], dtype=np.float32)
        stored_settings = stored["asked"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"path: {path} holds no decision curve; give another path") from error
    different = [name for name in settings if stored_settings.get(name) != settings[name]]
    if different or cosine.shape != shape:
        raise ValueError(
            f"path: {path} stores another curve (its {', '.join(different) or 'size'} differs); give another path, or "
            "delete it"
        )
    return cosine


def _store(path: Path | None, settings: dict[str, Any], cosine: Floats) -> None:
    """Write what is finished, whole or not at all."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[[None if np.isnan(score) else float(score) for score in point] for point in row] for row in cosine]
    write_bytes_whole(path, json.dumps({"asked": settings, "cosine": rows}).encode())
