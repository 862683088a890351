"""Rank correlation of words and concepts over the steps of one run.

The "correlation quantification" of J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231,
arXiv 2402.10404, applied to single words and concepts; `role_relevance.py` applies it to the roles of words in many
prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import choice, instance, items
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.concepts.meter import check_concepts, check_meter
from diffvis_widget.concepts.scores import measured_scores
from diffvis_widget.traces import Trace
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, text
from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array

from .word_relevance import Relevance

Test = Literal["effective", "independent"]
Adjust = Literal["holm", "benjamini-hochberg"]
Of = Literal["levels", "changes"]
Doubles = NDArray[np.float64]

LEAST = 6  # values of a curve: with fewer, hardly any correlation differs from chance
_TESTS = {
    "effective": "t test with the effective number of steps",
    "independent": "t test that takes the steps for independent",
}
_ADJUST = {"holm": "Holm", "benjamini-hochberg": "Benjamini and Hochberg"}


@dataclass(frozen=True, eq=False, repr=False)
class StepCorrelation(ResultValue):
    """Spearman correlation of the curves of W words with those of K concepts over the steps of a run.

    Attributes:
        measures: M names: "attention", and "relevance" where it was passed.
        words: W words as typed.
        concepts: K words or phrases.
        curves: float32 (M, W, T) of the words. Attention is the mean of the heat map, 0..1; relevance is the word's
            share of the raw relevance of all typed words, 0..1 (scaled relevance would be constant for the leading
            word).
        scores: float32 (T, K), cosines.
        rho: float64 (M, W, K), -1..1; NaN where a curve is constant or has gaps.
        p: float64 (M, W, K), two-sided.
        p_adjusted: float64 (M, W, K), p corrected for all tests.
        effective: float64 (M, W, K), effective number of independent steps of the two curves.
        of: "levels" or "changes".
        test: "effective" or "independent".
        adjust: "holm" or "benjamini-hochberg".

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=12)
        >>> result = dv.correlation(trace, ["circle", "red"])
        >>> isinstance(result, dv.StepCorrelation), result.concepts
        (True, ['circle', 'red'])
    """

    measures: list[str]
    words: list[str]
    concepts: list[str]
    curves: Floats
    scores: Floats
    rho: Doubles
    p: Doubles
    p_adjusted: Doubles
    effective: Doubles
    of: Of
    test: Test
    adjust: Adjust

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.rho, dtype, copy)

    def table(self) -> str:
        """Format rho of each word and concept, with a star where the corrected p is below 0.05.

        Returns:
            A Markdown table.
        """
        lines: list[str] = []
        for measure, rho, p in zip(self.measures, self.rho, self.p_adjusted, strict=True):
            lines += [f"| {measure} | {' | '.join(self.concepts)} |", "|---" * (len(self.concepts) + 1) + "|"]
            for word, row, chances in zip(self.words, rho, p, strict=True):
                lines.append(f"| {word} | {' | '.join(_cells(row, chances))} |")
            lines.append("")
        return "\n".join(lines) + self._explanation("\\*")

    def _explanation(self, star: str) -> str:
        tests = int(np.isfinite(self.p).sum())
        over = "the steps" if self.of == "levels" else "the changes from step to step"
        return (
            f"Spearman's rho over {over}. {star}: p < 0.05 by a {_TESTS[self.test]}, corrected for {tests} tests after "
            f"{_ADJUST[self.adjust]}."
        )

    def _repr_markdown_(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        tables: list[str] = []
        for measure, curves, rho, p in zip(self.measures, self.curves, self.rho, self.p_adjusted, strict=True):
            rows = [
                CurveRow(word, curve, _cells(row, chances))
                for word, curve, row, chances in zip(self.words, curves, rho, p, strict=True)
            ]
            tables.append(curve_table(("word", measure, *self.concepts), rows))
        facts = (f"{self.curves.shape[2]} steps", f"{len(self.concepts)} concepts")
        return card("Correlation with concept scores", facts, *tables, text(self._explanation("*"), 300))


def _cells(rho: Doubles, p: Doubles) -> list[str]:
    return [
        "–" if np.isnan(value) else f"{value:.2f}{'*' if chance < 0.05 else ''}"
        for value, chance in zip(rho, p, strict=True)
    ]


def correlation(
    trace: Trace,
    concepts: Sequence[str] | None = None,
    *,
    words: Sequence[str | int] | None = None,
    relevance: Relevance | None = None,
    meter: ConceptMeter | None = None,
    of: Of = "levels",
    test: Test = "effective",
    adjust: Adjust = "holm",
) -> StepCorrelation:
    """Correlate attention to words, or their relevance, with concept scores over the steps of one run.

    The measure is Spearman's rho of each word's curve with each concept's cosine, ranks of ties averaged. Correlation
    need not be causation: all curves follow the noise, which falls from step to step, so that most words correlate with
    most concepts whatever they mean. `of="changes"` is stricter; `dv.decision_curve` tests causes.

    The p values test whether two unrelated curves as smooth as these would correlate as strongly by chance.
    Neighbouring steps are alike, so T steps are worth fewer independent ones. "effective" counts them from the
    autocorrelation of the ranks (B. Pyper, R. Peterman, Can. J. Fish. Aquat. Sci. 55 (1998) 2127, eq. 1, without its
    restriction of lags) and uses t with that number less two degrees of freedom. For unrelated random walks of 30 steps
    its rate of p < 0.05 is one in twenty; that of the test for independent steps is more than half, that of circular
    shifts one in seven. No test on one run protects against a trend that both curves share: of two that drift steadily,
    half are significant. "independent" is the textbook test, for curves without autocorrelation.

    Args:
        trace: A run of at least 6 steps.
        concepts: Words to score; None takes those of `trace.scores`.
        words: Texts of the prompt or indices into `trace.words`; the occurrences of a text form one curve. None takes
            each typed word.
        relevance: Relevance of this run, from `dv.explain.relevance` or `relevance_of`.
        meter: As for `concept_scores`.
        of: "levels", the curves, or "changes", their differences from step to step, which removes a common trend.
        test: "effective" or "independent".
        adjust: Correction of p for all words, measures and concepts together: "holm" (probability of any false star) or
            "benjamini-hochberg" (share of false stars).

    Returns:
        The correlations.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are too few steps, no concepts or no word maps, or the relevance is of another run.
        KeyError: If a word is not in the prompt; the error lists those that are.
        IndexError: If an index is out of range.

    Example:
        >>> trace = dv.trace(dv.load(), "a red circle", seed=7, num_inference_steps=6)
        >>> dv.correlation(trace, ["circle"], words=["red"]).rho.shape
        (1, 1, 1)
    """
    instance("trace", trace, Trace, "a Trace, as dv.trace and dv.open_trace return it")
    check_meter(meter)
    choice("of", of, ("levels", "changes"))
    choice("test", test, tuple(_TESTS))
    choice("adjust", adjust, tuple(_ADJUST))
    total, least = len(trace.steps), LEAST + (of == "changes")
    if total < least:
        raise ValueError(f"trace has {total} steps; the correlation of {of} needs at least {least}")
    if not trace.layers or not trace.words:
        raise ValueError(
            "trace has no word maps to correlate: take the run of a pipeline whose trace.layers are not empty"
        )
    chosen = _chosen(trace, words)
    curves_by_name = {"attention": _attention(trace, chosen)}
    if relevance is not None:
        curves_by_name["relevance"] = _relevance(trace, relevance, chosen)
    names, scores = _scores(trace, concepts, meter)
    curves = np.stack(list(curves_by_name.values()))
    statistics = correlate(curves.reshape(-1, total), scores.T, of=of, test=test)
    shape = (*curves.shape[:2], len(names))
    rho, p, effective = (values.reshape(shape) for values in statistics)
    texts = [word.text for word in chosen]
    adjusted = adjusted_p(p, adjust)
    return StepCorrelation(
        list(curves_by_name), texts, names, curves, scores, rho, p, adjusted, effective, of, test, adjust
    )


class _Word(NamedTuple):
    text: str
    indices: list[int]


def _chosen(trace: Trace, words: Sequence[str | int] | None) -> list[_Word]:
    if words is None:
        typed = [index for index, word in enumerate(trace.words) if word.kind == "word" and word.tokens]
        if not typed:
            raise ValueError("trace has no words that were typed: its prompt is empty")
        return [_Word(trace.words[index].text, [index]) for index in typed]
    if isinstance(words, str):
        raise ValueError(f"words must be a list of words, got the string {words!r}: write [{words!r}]")
    if not items("words", words, "a list of words or indices, or None"):
        raise ValueError("words is empty: name one word or more, or leave it out for all that were typed")
    occurrences = [(word, pick_words(trace.words, word)) for word in words]
    return [
        _Word(word if isinstance(word, str) else trace.words[indices[0]].text, indices) for word, indices in occurrences
    ]


def _attention(trace: Trace, chosen: Sequence[_Word]) -> Floats:
    """float32 (W, T): mean of the heat map at each step, over the default layers."""
    masses = np.stack([trace.heat_maps(step).mean(axis=(1, 2)) for step in range(len(trace.steps))])
    return np.stack([masses[:, word.indices].sum(axis=1) for word in chosen]).astype(np.float32)


def _relevance(trace: Trace, word_relevance: Any, chosen: Sequence[_Word]) -> Floats:
    """float32 (W, T): share of the typed words' relevance at each step, that of a word's occurrences summed."""
    if not isinstance(word_relevance, Relevance):
        raise ValueError(f"relevance must be what dv.explain.relevance gives, not {type(word_relevance).__name__}")
    other = word_relevance.trace
    same = other is trace or (
        other.prompt == trace.prompt
        and len(other.steps) == len(trace.steps)
        and np.array_equal(other.timesteps, trace.timesteps)
        and other.meta.get("seed") == trace.meta.get("seed")
    )
    if not same:
        raise ValueError(
            f"relevance is of another run (prompt {other.prompt!r}, {len(other.steps)} steps, seed "
            f"{other.meta.get('seed')}): take dv.explain.relevance_of(pipe, trace), or correlate relevance.trace"
        )
    typed = np.isfinite(word_relevance.scaled).any(axis=0)
    share = word_relevance.raw / word_relevance.raw[:, typed].sum(axis=1, keepdims=True)
    return np.stack([share[:, word.indices].sum(axis=1) for word in chosen]).astype(np.float32)


def _scores(trace: Trace, concepts: Sequence[str] | None, meter: ConceptMeter | None) -> tuple[list[str], Floats]:
    """The concepts, and their cosines float32 (T, K): those of the trace where it has them all, else measured."""
    stored = trace.scores
    if concepts is None:
        if stored is None or not stored.concepts:
            raise ValueError('concepts=None takes those of trace.scores, and there are none: name some, as ["red"]')
        concepts = stored.concepts
    names = check_concepts(concepts)
    if not names:
        raise ValueError("concepts is empty: name one word or more")
    if stored is not None and meter is None and set(names) <= set(stored.concepts):
        return names, stored.cosine[:, [stored.concepts.index(name) for name in names]]
    return names, measured_scores(trace, names, meter).cosine


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def correlate(a: Floats, b: Floats, *, of: Of = "levels", test: Test = "effective") -> tuple[Doubles, Doubles, Doubles]:
    """Compute Spearman's rho, p and the effective number of steps of each pair of curves.

    Args:
        a: Curves (A, T).
        b: Curves (B, T).
        of: "levels" or "changes".
        test: "effective" or "independent".

    Returns:
        rho, p and effective number, float64 (A, B); NaN for a curve that is constant or has gaps.
    """
    first, second = (_ranked(np.diff(part, axis=1) if of == "changes" else part) for part in (a, b))
    count = first.shape[1]
    rho = np.clip(first @ second.T, -1, 1)
    lags = np.arange(1, count)
    shared = np.einsum("al,bl,l->ab", _autocorrelation(first), _autocorrelation(second), (count - lags) / count)
    worth = 1 + 2 * shared
    effective = np.where(np.isnan(rho), np.nan, count / np.maximum(worth, 1))
    freedom = np.maximum((effective if test == "effective" else np.where(np.isnan(rho), np.nan, count)) - 2, 1)
    return rho, chance(rho, freedom), effective


def _ranked(curves: Floats) -> Doubles:
    """Ranks of each row, ties averaged, with mean 0 and length 1; NaN for a row that is constant or has gaps."""
    rows = np.asarray(curves, dtype=np.float64)
    less = (rows[:, :, None] > rows[:, None, :]).sum(axis=2)
    equal = (rows[:, :, None] == rows[:, None, :]).sum(axis=2)
    ranks = less + (equal + 1) / 2
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    usable = np.isfinite(rows).all(axis=1, keepdims=True) & (size > 0)
    return np.divide(centred, size, out=np.full_like(centred, np.nan), where=usable)


def _autocorrelation(ranked: Doubles) -> Doubles:
    """(rows, T - 1): of each row with itself, 1 to T - 1 steps later."""
    count = ranked.shape[1]
    return np.stack([(ranked[:, : count - lag] * ranked[:, lag:]).sum(axis=1) for lag in range(1, count)], axis=1)


def chance(rho: Doubles, freedom: Doubles) -> Doubles:
    """Compute the two-sided p of a correlation by Student's t.

    With rho = sin(x), the density of t is that of cos(x)^(freedom - 1); its part beyond |rho| is integrated by Gaussian
    quadrature.

    Args:
        rho: Correlations, -1..1.
        freedom: Degrees of freedom, 1 or more, not necessarily whole; of the same shape.

    Returns:
        p, 0..1, of the same shape.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)

    def beyond(start: Doubles) -> Doubles:
        half = (np.pi / 2 - start) / 2
        angles = start[..., None] + half[..., None] * (nodes + 1)
        return half * (np.cos(angles) ** (freedom[..., None] - 1) * weights).sum(axis=-1)

    return beyond(np.arcsin(np.abs(rho))) / beyond(np.zeros_like(rho))


def adjusted_p(p: Doubles, how: Adjust) -> Doubles:
    """Correct p for as many tests as there are finite values: Holm (1979), or Benjamini and Hochberg (1995).

    Args:
        p: p values of any shape; NaN where there is no test.
        how: "holm" or "benjamini-hochberg".

    Returns:
        Corrected p, of the same shape.
    """
    flat = p.ravel()
    finite = np.flatnonzero(np.isfinite(flat))
    order = finite[np.argsort(flat[finite], kind="stable")]
    count = len(order)
    if how == "holm":
        raised = np.maximum.accumulate(flat[order] * np.arange(count, 0, -1))
    else:
        raised = np.minimum.accumulate((flat[order] * count / np.arange(1, count + 1))[::-1])[::-1]
    result = np.full_like(flat, np.nan)
    result[order] = np.minimum(raised, 1)
    return result.reshape(p.shape)
