"""Which words of the prompt a run attends to, step by step: relevance carried through all attention layers.

The relevance scores of J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231,
arXiv 2402.10404, by the rules of H. Chefer, S. Gur, L. Wolf, ICCV 2021, arXiv 2103.15679.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from diffvis_widget._compat.torch_compile import uncompiled
from diffvis_widget.tracer import Denoiser, Family, denoiser, denoiser_lock, find_family
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace, Word, WordRelevance
from diffvis_widget.traces.results.relevance import scaled
from diffvis_widget.traces.types import Floats

from .arguments import count
from .progress import Progress, tracking
from .relevance_pass import Sites, carried, together
from .text_encoder import TextSide


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

    @property
    def kept(self) -> WordRelevance:
        """As a trace keeps it, in its file and its page too: ``trace.relevance.append(found.kept)``.

        That of another schedule goes with the run that it is compared with, the same prompt and seed.
        """
        schedule = str(self.trace.meta.get("schedule", "uniform"))
        return WordRelevance(schedule, self.trace.timesteps, self.raw, self.maps)


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
    execution, gives cam = mean over heads of max(0, dy/dP * P), P its attention probabilities, and carries relevance
    on. One run, then one gradient per step (ten steps of a small U-Net at once: gradients of rows do not meet).

    Cross-attention: R_ii (image on image) from I, R_iq (image on text) from 0; self-attention adds cam R_iq to R_iq and
    cam R_ii to R_ii, cross-attention adds norm(R_ii)^T (cam norm(R_qq)) to R_iq. In U-Nets R_qq (text on text), from I,
    comes from the text encoder, whose cams are those of the same y. In transformers it is I: their encoders are many or
    large, so relevance stays with the text position that the denoiser was given. Linear attention (Sana's, image on
    image) has no P, and is left out.
    Joint attention: the rule of self-attention on one R over [text, image], from I: R += cam R; attention of the image
    alone adds to the image's rows. R_iq are the rows of the image and columns of the text. Positions that are neither
    (registers, a picture to look at) are left out.
    The run made here keeps what was found: `Relevance.trace` has it as its `relevance`.

    pipe: of a family that `dv.Tracer` finds words for. prompt: one text. seed, num_inference_steps, schedule,
    schedule_strength and all else: as for dv.trace. grid: image positions are those of the finest attention grid, but
    no more than this many along a side; finer layers are averaged to it (joint attention's text is not). progress:
    True, False, or a function of (done, total) that may raise to stop.

    Raises TypeError and ValueError for arguments that cannot be used, for a U-Net without a text encoder, for pipelines
    whose words are not known, and where attention is computed in a way that cannot be seen.
    """
    count("grid", grid)
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be one text, not {type(prompt).__name__}: relevance follows it through its words")
    _known(pipe)
    trace = run(
        pipe,
        prompt,
        seed=seed,
        num_inference_steps=num_inference_steps,
        schedule=schedule,
        schedule_strength=schedule_strength,
        **pipe_kwargs,
    )
    found = relevance_of(pipe, trace, grid=grid, progress=progress, **pipe_kwargs)
    trace.relevance.append(found.kept)
    return found


def relevance_of(
    pipe: Any, trace: Trace, *, grid: int = 32, progress: Progress = True, **pipe_kwargs: Any
) -> Relevance:
    """`relevance` of a run that is there already: one gradient per step, nothing is generated again.

    The trace is left as it is; see `Relevance.kept`.

    pipe: the pipeline of the run. trace: made in this process, with a prompt that the pipeline encoded itself.
    pipe_kwargs: what the run was called with, as far as it concerns its text (clip_skip, say). All else as there.
    Raises ValueError for another pipeline than the run's, what `denoiser` raises, and what `relevance` does.
    """
    limit = count("grid", grid)
    family = _known(pipe)
    # the model still answers as it did in the run
    probe = denoiser(trace, 0)
    if probe.module is not uncompiled(getattr(pipe, family.denoiser_attribute)):
        raise ValueError("pipe: this trace was made with another pipeline")
    sites = Sites.of(probe.module, family)
    length = 1 + max(token for word in trace.words for token in word.tokens)
    rows: list[Floats] = []
    with (
        denoiser_lock(pipe),
        TextSide(pipe, family, trace.prompt, pipe_kwargs) if family.text_encoders else nullcontext() as text,
        tracking(progress, len(trace.steps), "relevance") as tell,
    ):
        size = together(probe)
        for start in range(0, len(trace.steps), size):
            steps = range(start, min(start + size, len(trace.steps)))
            probes = [Denoiser(trace, step, checked=True) for step in steps]
            for tokens in carried(probes, sites, text, length, limit):
                rows.append(_words(tokens, trace.words))
                tell(1)
    maps = np.stack(rows)
    raw = maps.sum(axis=(2, 3))
    return Relevance(raw, scaled(raw, trace.words), maps, trace)


def _known(pipe: Any) -> Family:
    family, _ = find_family(pipe)
    if not family.token_streams:
        raise ValueError(f"relevance needs attention to words, and none is known in the {family.name} of this pipeline")
    return family


def _words(tokens: Floats, words: list[Word]) -> Floats:
    """Relevance of tokens (L, h, w), summed over the tokens of each word (W, h, w)."""
    nothing = np.full(tokens.shape[1:], np.nan, dtype=np.float32)
    return np.stack([tokens[list(word.tokens)].sum(axis=0) if word.tokens else nothing for word in words])
