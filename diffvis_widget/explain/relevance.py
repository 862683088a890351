"""Which words of the prompt a run attends to, step by step: relevance carried through all attention layers.

The relevance scores of J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231,
arXiv 2402.10404, by the rules of H. Chefer, S. Gur, L. Wolf, ICCV 2021, arXiv 2103.15679.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from diffvis_widget.tracer import Denoiser, denoiser, denoiser_lock, families
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace, Word

from .arguments import count
from .attention import Attended, attention_seen
from .progress import Progress, tracking
from .saliency import Floats, scale
from .text import TextSide
from .walk import ImageText, Size, resized, resized_keys


@dataclass(frozen=True)
class Relevance:
    """Relevance of each word at each step of a run.

    raw: float32 (T, W), W = len(trace.words): the sum over image positions of the relevance of the word's tokens,
    >= 0; NaN for words that were cut off. scaled: float32 (T, W), 0..1: `raw` min-max scaled over the typed words of
    each step, the curves that the paper plots; NaN for special tokens, padding and words that were cut off. maps:
    float32 (T, W, h, w), where that relevance lies: their sums over positions are `raw`. trace: of the run.
    """

    raw: Floats
    scaled: Floats
    maps: Floats
    trace: Trace

    @property
    def scores(self) -> Floats:
        """float32 (W,): the sum of each word's scaled curve, the paper's score of a word under a sampling scheme."""
        return self.scaled.sum(axis=0)


def relevance(
    pipe: Any,
    prompt: str,
    *,
    seed: int | None = None,
    num_inference_steps: int | None = None,
    schedule: Literal["uniform", "early", "late"] = "uniform",
    schedule_strength: float = 60,
    grid: int = 32,
    progress: Progress = True,
    **pipe_kwargs: Any,
) -> Relevance:
    """Run a prompt and find the relevance of its words at every step.

    At each step y is the sum of the denoiser's raw output of the conditional branch. Every attention layer, in order of
    execution, gives cam = mean over heads of max(0, dy/dP * P), P its attention probabilities, and carries R_ii (image
    on image) and R_iq (image on text) on, from I and 0; R_qq (text on text), from I, comes from the text encoder, whose
    cams are those of the same y. One run, then one gradient per step.

    pipe: a pipeline with a cross-attention U-Net. prompt: one text. seed, num_inference_steps, schedule,
    schedule_strength and all else: as for dv.trace. grid: R_ii lives on the finest attention grid, but on no more than
    this many positions along a side; finer layers are averaged to it. progress: True, False, or a function of
    (done, total) that may raise to stop.

    Raises TypeError and ValueError for arguments that cannot be used, for pipelines without a text encoder or with
    another kind of denoiser, and where attention is computed in a way that cannot be seen.
    """
    limit = count("grid", grid)
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be one text, not {type(prompt).__name__}: relevance follows it through its words")
    family, _ = families.find(pipe)
    if family.kind != "cross" or family.denoiser != "unet":
        raise ValueError(
            f"relevance is defined here for U-Nets with cross-attention; {type(pipe).__name__} has a {family.name}"
        )
    trace = run(
        pipe,
        prompt,
        seed=seed,
        num_inference_steps=num_inference_steps,
        schedule=schedule,
        schedule_strength=schedule_strength,
        **pipe_kwargs,
    )
    _ = denoiser(trace, 0)  # the model still answers as it did in the run
    rows: list[Floats] = []
    with (
        denoiser_lock(pipe),
        TextSide(pipe, prompt, pipe_kwargs) as text,
        tracking(progress, len(trace.steps), "relevance") as tell,
    ):
        for step in range(len(trace.steps)):
            rows.append(_words(_of_step(Denoiser(trace, step), text, family, limit), trace.words))
            tell(1)
    maps = np.stack(rows)
    raw = maps.sum(axis=(2, 3))
    typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
    scaled = np.full_like(raw, np.nan)
    for index in range(len(raw)):
        scaled[index, typed] = scale(raw[index, typed])
    return Relevance(raw, scaled, maps, trace)


def _of_step(probe: Denoiser, text: TextSide, family: families.Family, limit: int) -> Floats:
    """float32 (L, h, w): relevance of each text position at one step, where it lies."""
    evaluation, rows = probe.prompt()
    arguments = probe.arguments(evaluation, rows)
    leaves = text.put_into(arguments, family.text)
    words = family.sites(probe.module)
    sites = {name: module for name, module in probe.module.named_modules() if hasattr(module, "processor")}
    with torch.inference_mode(False), torch.enable_grad(), probe.held(), attention_seen(sites) as seen:
        total = probe.run(evaluation, probe.latents, rows, arguments).float().sum()
        found = torch.autograd.grad(total, [*(one.output for one in seen), *leaves], allow_unused=True)
    gradients, slopes = found[: len(seen)], found[len(seen) :]
    on_text = text.relevance(slopes)
    size = (int(probe.latents.shape[2]), int(probe.latents.shape[3]))
    calls = _own_calls(seen, words, len(on_text))
    grids = [family.grid(seen[one].query.shape[2], size) for one in calls]
    known = [grid for grid in grids if grid is not None]
    if not any(seen[one].site in words for one in calls) or len(known) < len(grids):
        raise ValueError(
            "no attention to words was seen while the denoiser ran: its processors compute it in a way that cannot be "
            "followed; call set_default_attn_processor() on the denoiser"
        )
    state = ImageText(_limited(max(known, key=lambda one: one[0] * one[1]), limit), on_text)
    for one, source in zip(calls, known, strict=True):
        if seen[one].site in words:
            state.cross_layer(resized(seen[one].cam(gradients[one]), source, state.grid))
        else:
            state.self_layer(_self_cam(seen[one], gradients[one], source, state.grid))
    return state.on_text.T.unflatten(1, state.grid).cpu().numpy()


def _own_calls(seen: list[Attended], words: dict[str, Any], length: int) -> list[int]:
    """Indices of the calls that count: an IP-Adapter attends again, to its picture, inside a word-attention module."""
    first: set[str] = set()
    chosen: list[int] = []
    for index, one in enumerate(seen):
        fits = one.key.shape[2] == (length if one.site in words else one.query.shape[2])
        if fits and one.site not in first:
            first.add(one.site)
            chosen.append(index)
    return chosen


def _self_cam(layer: Attended, gradient: Tensor | None, source: Size, target: Size) -> Tensor:
    return resized(layer.cam(gradient, lambda rows: resized_keys(rows, source, target)), source, target)


def _limited(grid: Size, limit: int) -> Size:
    """The grid divided by the smallest whole number that leaves no side longer than the limit."""
    factor = -(-max(grid) // limit)
    return -(-grid[0] // factor), -(-grid[1] // factor)


def _words(tokens: Floats, words: list[Word]) -> Floats:
    """Relevance of tokens (L, h, w), summed over the tokens of each word (W, h, w)."""
    nothing = np.full(tokens.shape[1:], np.nan, dtype=np.float32)
    return np.stack([tokens[list(word.tokens)].sum(axis=0) if word.tokens else nothing for word in words])
