"""The built-in measures of a study: each computes columns of one run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvis_widget.concepts.scores import measured_scores
from diffvis_widget.traces import Trace, compare
from diffvis_widget.traces.types import Floats

from .columns import Kind
from .prompts import PromptRow

# Words that no image shows by themselves.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at above behind below beside between by for from in inside into is it its left near next no "
        "not of off on onto or out over right that the their them there these this those through to under up was were "
        "with",
    )
)


@dataclass(frozen=True)
class MeasuredRun:
    """A run and what a measure may use of its surroundings.

    Attributes:
        trace: The run.
        pipe: The pipeline that made it.
        row: The prompt and its columns.
        prompt: The prompt of the run.
        seed: Its seed.
        arguments: Arguments of the run.
        base: Returns the run of another condition with the same prompt and seed.
    """

    trace: Trace
    pipe: Any
    row: PromptRow
    prompt: str
    seed: int
    arguments: Mapping[str, Any]
    base: Callable[[str | None], Trace]

    @property
    def words(self) -> list[int]:
        """Indices into `trace.words` of the typed words that the model saw."""
        return [index for index, word in enumerate(self.trace.words) if word.kind == "word" and word.tokens]


@dataclass(frozen=True)
class BuiltinMeasure:
    """A built-in measure.

    Attributes:
        function: Computes values by column from a MeasuredRun; its other parameters are options.
        columns: Kinds by column.
    """

    function: Callable[..., Mapping[str, Any]]
    columns: Mapping[str, Kind]


def scores(run: MeasuredRun, concepts: Sequence[str] | None = None, meter: Any = None) -> dict[str, Any]:
    """Score the predicted image of every step against words.

    Args:
        run: The run.
        concepts: Words or phrases; None for the words of the prompt, without articles and prepositions.
        meter: As for `dv.concept_scores`, or a function that makes one.

    Returns:
        Cosines and shares (concepts x steps), null band and steps of emergence.
    """
    words = prompt_concepts(run.trace) if concepts is None else list(concepts)
    result = measured_scores(run.trace, words, made_meter(meter))
    return {
        "scores_concepts": words,
        "scores_cosine": result.cosine.T,
        "scores_share": result.share.T,
        "scores_null_low": result.null_band[:, 0],
        "scores_null_high": result.null_band[:, 1],
        "scores_emergence": result.emergence,
    }


def prompt_concepts(trace: Trace) -> list[str]:
    """Choose the words of a prompt that an image can show.

    Args:
        trace: A run.

    Returns:
        Its words, each once, without articles, prepositions and punctuation.
    """
    words = [word.text for word in trace.words if word.kind == "word" and word.tokens]
    shown = [word for word in words if re.search(r"\w", word) and word.lower() not in _FUNCTION_WORDS]
    return list(dict.fromkeys(shown))


_meters: dict[Any, Any] = {}


def made_meter(meter: Any) -> Any:
    """Make a meter, once in each process.

    Args:
        meter: A meter, a function that makes one, or None.

    Returns:
        The meter, or None.
    """
    if meter is None or (hasattr(meter, "scores") and not isinstance(meter, type)):
        return meter
    if meter not in _meters:
        _meters[meter] = meter()
    return _meters[meter]


def attention(run: MeasuredRun) -> dict[str, Any]:
    """Measure how much attention each word gets at each step, and how widely it is spread.

    Args:
        run: The run.

    Returns:
        Mean attention probability over the image, 0..1, and entropy of the map over that of an even one, 0..1; both
        (words x steps).
    """
    maps = _maps(run)
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    return {"attention_mass": flat.mean(axis=2).T, "attention_entropy": _entropy(flat).T}


def overlap(run: MeasuredRun) -> dict[str, Any]:
    """Measure how far the maps of two words lie on each other.

    Args:
        run: The run.

    Returns:
        (words x words), 0..1: 1 minus the total variation distance of the two maps, each averaged over the steps.
    """
    maps = _maps(run).mean(axis=0, dtype=np.float64)
    shares = _shares(maps.reshape(len(maps), -1))
    return {"overlap": [np.minimum(share, shares).sum(axis=1) for share in shares]}


def relevance(run: MeasuredRun, grid: int = 32) -> dict[str, Any]:
    """Propagate the relevance of each word through all attention layers, at each step.

    Args:
        run: The run.
        grid: As for `dv.explain.relevance`.

    Returns:
        Raw and scaled relevance, (words x steps).
    """
    from diffvis_widget.explain import relevance_of

    result = relevance_of(run.pipe, run.trace, grid=grid, progress=False, **text_arguments(run.arguments))
    return {"relevance_raw": result.raw[:, run.words].T, "relevance_scaled": result.scaled[:, run.words].T}


def text_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments of a pipeline call.

    Args:
        arguments: Arguments of `dv.trace`.

    Returns:
        Those that `dv.trace` passes on.
    """
    names = {"num_inference_steps", "schedule", "schedule_strength", "negative_prompt", "keep", "interventions"}
    return {name: value for name, value in arguments.items() if name not in names | {"compiled", "output"}}


def decision(
    run: MeasuredRun,
    word: str = "{word}",
    to: str = "{to}",
    concepts: Sequence[str] = (),
    meter: Any = None,
    switch: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Find the step from which on another word in the place of one no longer changes the image.

    Args:
        run: The run.
        word: The word; "{word}" is the column of this name.
        to: The word in its place.
        concepts: More words to score; they may name columns too.
        meter: As for `dv.decision_curve`, or a function that makes one.
        switch: As for `dv.decision_curve`.

    Returns:
        The decision step, and the curve that it was read from; nothing of a run with interventions or another schedule
        than "uniform", which `dv.decision_curve` does not take.
    """
    from diffvis_widget.intervene import decision_curve

    if run.arguments.get("schedule", "uniform") != "uniform" or run.arguments.get("interventions"):
        return {}

    columns = {**run.row.columns, "prompt": run.prompt}
    before, after = word.format_map(columns), to.format_map(columns)
    arguments = text_arguments(run.arguments)
    if (negative_prompt := run.arguments.get("negative_prompt")) is not None:
        arguments["negative_prompt"] = negative_prompt
    curve = decision_curve(
        run.pipe,
        run.prompt,
        before,
        after,
        steps=len(run.trace.steps),
        seeds=[run.seed],
        switch=switch,
        concepts=[concept.format_map(columns) for concept in concepts],
        meter=made_meter(meter),
        progress=False,
        **arguments,
    )
    if not curve.complete:
        raise KeyboardInterrupt
    return {
        "decision_step": curve.decision,
        "decision_share": curve.share[0],
        "decision_switch": curve.switch,
        "decision_concepts": curve.concepts,
        "decision_cosine": curve.cosine[0].T,
    }


def divergence(run: MeasuredRun, base: str | None = None) -> dict[str, Any]:
    """Compare a run with that of another condition, of the same prompt and seed.

    Args:
        run: The run.
        base: Name of the condition; None for the first.

    Returns:
        Distance at each step, the step from which on the runs diverge, and the mean difference of the images.
    """
    result = compare(run.base(base), run.trace)
    step = result.divergence_step
    return {
        "divergence_distance": result.distance,
        "divergence_step": None if step is None else int(result.steps[step, 1]),
        "divergence_image": result.image_difference,
    }


def _maps(run: MeasuredRun) -> Floats:
    """float32 (T, words, h, w), of the typed words."""
    if not run.trace.layers:
        raise ValueError(
            "measures: attention and overlap need word maps, and this pipeline is traced without: leave them out"
        )
    return np.stack([run.trace.heat_maps(step=step)[run.words] for step in range(len(run.trace.steps))])


def _shares(flat: Any) -> Any:
    """Maps with sum 1."""
    return flat / np.maximum(flat.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)


def _entropy(flat: Any) -> Any:
    shares = _shares(flat)
    logarithms = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return -(shares * logarithms).sum(axis=-1) / np.log(shares.shape[-1])


BUILTIN: dict[str, BuiltinMeasure] = {
    "scores": BuiltinMeasure(
        scores,
        {
            "scores_concepts": "texts",
            "scores_cosine": "curves",
            "scores_share": "curves",
            "scores_null_low": "curve",
            "scores_null_high": "curve",
            "scores_emergence": "curve",
        },
    ),
    "attention": BuiltinMeasure(attention, {"attention_mass": "curves", "attention_entropy": "curves"}),
    "overlap": BuiltinMeasure(overlap, {"overlap": "curves"}),
    "relevance": BuiltinMeasure(relevance, {"relevance_raw": "curves", "relevance_scaled": "curves"}),
    "decision": BuiltinMeasure(
        decision,
        {
            "decision_step": "number",
            "decision_share": "curve",
            "decision_switch": "curve",
            "decision_concepts": "texts",
            "decision_cosine": "curves",
        },
    ),
    "divergence": BuiltinMeasure(
        divergence, {"divergence_distance": "curve", "divergence_step": "number", "divergence_image": "number"}
    ),
}
"""Built-in measures by name."""
