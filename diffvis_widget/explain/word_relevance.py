"""Relevance of the words of the prompt at each step of a run, propagated through all attention layers.

The relevance scores of J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231,
arXiv 2402.10404, by the rules of H. Chefer, S. Gur, L. Wolf, ICCV 2021, arXiv 2103.15679.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget._compat.torch_compile import uncompiled
from diffvis_widget.arguments import count, instance
from diffvis_widget.tracer import Denoiser, Family, check_call_arguments, denoiser, denoiser_lock, find_family
from diffvis_widget.tracer import trace as run
from diffvis_widget.traces import Trace, Word, WordRelevance
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, last, text
from diffvis_widget.traces.results.relevance import scaled
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .progress import Progress, check_progress, tracking
from .relevance_pass import AttentionModules, relevance_maps, steps_per_batch
from .text_encoder import TextEncoderPass

_MAX_GRID = 4096


@dataclass(frozen=True, eq=False, repr=False)
class Relevance(ResultValue):
    """Relevance of each word at each step of a run.

    Attributes:
        raw: float32 (T, W), W = len(trace.words), >= 0: the sum over image tokens of the relevance of the word's text
            tokens; NaN for words that were cut off.
        scaled: float32 (T, W), 0..1: `raw` min-max scaled over the typed words of each step, the curves that the paper
            plots; NaN for special tokens, padding and words that were cut off.
        maps: float32 (T, W, h, w), the relevance at each image token; their sums over positions are `raw`.
        trace: The run.

    Example:
        >>> found = dv.explain.relevance(dv.load(), "a red circle", seed=7, num_inference_steps=2, progress=False)
        >>> isinstance(found, dv.explain.Relevance)
        True
    """

    raw: Floats
    scaled: Floats
    maps: Floats
    trace: Trace

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.raw, dtype, copy)

    def _repr_html_(self) -> str:
        rows = [
            CurveRow(word.text, values, (last(values),))
            for word, values in zip(self.trace.words, self.raw.T, strict=True)
            if word.kind == "word" and word.tokens
        ]
        schedule = str(self.trace.meta.get("schedule", "uniform"))
        table = curve_table(("word", "relevance", "last"), rows)
        return card(
            "Relevance", (f"schedule {schedule}", f"{len(self.raw)} steps"), text(self.trace.prompt, 300), table
        )

    def to_pandas(self) -> Any:
        """Make a table of `raw`: a row for each step, a column for each word. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame(
            {
                f"{index} {word.text}": row
                for (index, word), row in zip(enumerate(self.trace.words), self.raw.T, strict=True)
            },
            index_name="index",
        )

    @property
    def scores(self) -> Floats:
        """The paper's score of a word under a sampling scheme, the sum of its scaled curve: float32 (W,)."""
        return self.scaled.sum(axis=0)

    @property
    def stored(self) -> WordRelevance:
        """The stored form, for a trace, its file and its page: ``trace.relevance.append(relevance.stored)``.

        Relevance of another schedule is stored in the trace of the run that it is compared with, of the same prompt and
        seed.
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
    """Run a prompt and compute the relevance of its words at every step.

    At each step y is the sum of the denoiser's raw output of the conditional branch. Every attention layer, in order of
    execution, gives cam = mean over heads of max(0, dy/dP * P), P its attention probabilities, and propagates
    relevance. This takes one run, then one gradient per step (ten steps of a small U-Net at once: rows of a batch are
    independent).

    Cross-attention: R_ii (image on image) starts from I, R_iq (image on text) from 0; self-attention adds cam R_iq to
    R_iq and cam R_ii to R_ii, cross-attention adds norm(R_ii)^T (cam norm(R_qq)) to R_iq. In U-Nets R_qq (text on
    text), from I, comes from the text encoder, whose cams are those of the same y. In transformers it is I: their
    encoders are many or large, so relevance stays with the text token of the denoiser's input. Linear attention
    (Sana's, image on image) has no P, and is left out.

    Joint attention: the rule of self-attention on one R over [text, image], from I: R += cam R; attention of the image
    alone adds to the image's rows. R_iq are the rows of the image and columns of the text. Tokens that are neither
    (registers, a reference image) are left out.

    The result is also stored in the run, as `Relevance.trace.relevance`.

    Args:
        pipe: A pipeline of a family whose words `dv.Tracer` finds.
        prompt: One prompt.
        seed: As for `dv.trace`.
        num_inference_steps: As for `dv.trace`.
        schedule: As for `dv.trace`.
        schedule_strength: As for `dv.trace`.
        grid: Largest side of the image grid. The grid is that of the finest attention layer; finer layers than this are
            averaged (the text of joint attention is not).
        progress: True, False, or a function of (done, total) that may raise to cancel.
        **pipe_kwargs: Any other argument of the pipeline.

    Returns:
        The relevance, with its run.

    Raises:
        TypeError: If an argument has the wrong type or name.
        ValueError: If an argument is out of range, a U-Net has no text encoder, the pipeline's words are not known, or
            its attention cannot be observed.

    Example:
        >>> found = dv.explain.relevance(dv.load(), "a red circle", seed=7, num_inference_steps=2, progress=False)
        >>> found.raw.shape == (2, len(found.trace.words))
        True
    """
    count("grid", grid, 1, _MAX_GRID)
    check_progress(progress)
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be one text, not {type(prompt).__name__}: relevance follows it through its words")
    check_call_arguments(pipe, {"prompt": prompt, **pipe_kwargs}, modifies=True)
    _family_with_words(pipe)
    trace = run(
        pipe,
        prompt,
        seed=seed,
        num_inference_steps=num_inference_steps,
        schedule=schedule,
        schedule_strength=schedule_strength,
        **pipe_kwargs,
    )
    of_call = {name: value for name, value in pipe_kwargs.items() if name not in inspect.signature(run).parameters}
    result = relevance_of(pipe, trace, grid=grid, progress=progress, **of_call)
    trace.relevance.append(result.stored)
    return result


def relevance_of(
    pipe: Any, trace: Trace, *, grid: int = 32, progress: Progress = True, **pipe_kwargs: Any
) -> Relevance:
    """Compute the relevance of an existing run: one gradient per step, without generating again.

    The trace is not changed; `Relevance.stored` can be stored in it.

    Args:
        pipe: The pipeline of the run.
        trace: A run made in this process, with a prompt that the pipeline encoded itself.
        grid: As for `relevance`.
        progress: As for `relevance`.
        **pipe_kwargs: The arguments of the run that concern its text (such as clip_skip).

    Returns:
        The relevance.

    Raises:
        TypeError: If an argument has the wrong type or name.
        ValueError: If the run is of another pipeline or has no live one, or for what `relevance` refuses.

    Example:
        >>> pipe = dv.load()
        >>> trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
        >>> dv.explain.relevance_of(pipe, trace, progress=False).trace is trace
        True
    """
    limit = count("grid", grid, 1, _MAX_GRID)
    check_progress(progress)
    instance("trace", trace, Trace, "a Trace, as dv.trace returns it")
    family = _family_with_words(pipe)
    check_call_arguments(pipe, pipe_kwargs, modifies=True)
    # checks that the model still reproduces the run
    probe = denoiser(trace, 0)
    if probe.module is not uncompiled(getattr(pipe, family.denoiser_attribute)):
        raise ValueError("pipe: this trace was made with another pipeline")
    modules = AttentionModules.of(probe.module, family)
    length = 1 + max(token for word in trace.words if word.kind != "concept" for token in word.tokens)
    rows: list[Floats] = []
    with (
        denoiser_lock(pipe),
        TextEncoderPass(pipe, family, trace.prompt, pipe_kwargs) if family.text_encoders else nullcontext() as text,
        tracking(progress, len(trace.steps), "relevance") as tell,
    ):
        size = steps_per_batch(probe)
        for start in range(0, len(trace.steps), size):
            steps = range(start, min(start + size, len(trace.steps)))
            probes = [Denoiser(trace, step, checked=True) for step in steps]
            for tokens in relevance_maps(probes, modules, text, length, limit):
                rows.append(_words(tokens, trace.words))
                tell(1)
    maps = np.stack(rows)
    raw = maps.sum(axis=(2, 3))
    return Relevance(raw, scaled(raw, trace.words), maps, trace)


def _family_with_words(pipe: Any) -> Family:
    family, _ = find_family(pipe)
    if not family.token_streams:
        raise ValueError(
            f"relevance needs attention to words, and none is known in the {family.name} of {type(pipe).__name__}. To "
            "add it, see docs/pages/add-a-family.md"
        )
    return family


def _words(tokens: Floats, words: list[Word]) -> Floats:
    """Relevance of tokens (L, h, w), summed over the tokens of each word (W, h, w); nothing depends on concepts."""
    nothing = np.full(tokens.shape[1:], np.nan, dtype=np.float32)
    reaches = [bool(word.tokens) and word.kind != "concept" for word in words]
    return np.stack(
        [
            tokens[list(word.tokens)].sum(axis=0) if reached else nothing
            for word, reached in zip(words, reaches, strict=True)
        ]
    )
