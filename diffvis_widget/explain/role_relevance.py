"""Correlation quantification: which roles of words a sampling scheme attends to, over many prompts.

J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404: relevance scores
summed per role under uniform, early and late sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import MAX_SEED, MAX_STEPS, choice, count, instance, items, text
from diffvis_widget.intervals import median_interval
from diffvis_widget.schedule import ScheduleKind
from diffvis_widget.traces.html_summary import CurveRow, card, curve_table, number
from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.traces.types import Floats
from diffvis_widget.traces.values import ResultValue, as_array, data_frame

from .progress import Progress, check_progress, tracking
from .word_relevance import Relevance, relevance

Roles = Mapping[str, str] | Mapping[int, str]


@dataclass(frozen=True, eq=False, repr=False)
class RoleRelevance(ResultValue):
    """Relevance per role and sampling scheme.

    Attributes:
        schedules: Names of the first axis.
        roles: Names of the third axis.
        curves: float32 (schedules, prompts, roles, T), the mean scaled relevance of a prompt's words in a role, at each
            step; NaN where the prompt has no such word.

    Example:
        >>> import numpy as np
        >>> dv.explain.RoleRelevance(["early"], ["object"], np.ones((1, 2, 1, 5), np.float32)).mean
        array([[5.]], dtype=float32)
    """

    schedules: list[str]
    roles: list[str]
    curves: Floats

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return as_array(self.scores, dtype, copy)

    def _repr_html_(self) -> str:
        rows: list[CurveRow] = []
        for schedule, of_prompts in zip(self.schedules, self.curves, strict=True):
            for role, curves in zip(self.roles, np.moveaxis(of_prompts, 1, 0), strict=True):
                used = curves[~np.isnan(curves).any(axis=1)]
                curve = np.median(used, axis=0) if len(used) else np.full(curves.shape[1], np.nan)
                score = float(np.median(used.sum(axis=1))) if len(used) else float("nan")
                rows.append(CurveRow(f"{schedule}: {role}", curve, (number(score), str(len(used)))))
        heads = ("schedule and role", "median over prompts", "median score", "prompts")
        return card("Relevance by role", (f"{self.curves.shape[1]} prompts",), curve_table(heads, rows))

    def to_pandas(self) -> Any:
        """Make a table of the medians: a row for each schedule, a column for each role. It needs pandas.

        Returns:
            A pandas DataFrame.
        """
        return data_frame(dict(zip(self.roles, self.median.T, strict=True)), self.schedules, "schedule")

    @property
    def scores(self) -> Floats:
        """Sums of the curves over the steps: float32 (schedules, prompts, roles)."""
        return self.curves.sum(axis=3)

    @property
    def mean(self) -> Floats:
        """Mean scores over the prompts that have the role: float32 (schedules, roles)."""
        return np.nanmean(self.scores, axis=1).astype(np.float32)

    @property
    def median(self) -> Floats:
        """Median scores over the prompts that have the role: float32 (schedules, roles)."""
        return np.nanmedian(self.scores, axis=1).astype(np.float32)

    @property
    def interval(self) -> Floats:
        """95 % interval of the median over all prompts, for any distribution: float32 (schedules, roles, 2).

        From -inf to inf, that is none, for a role of fewer than five prompts.
        """
        by_schedule = [[median_interval(column) for column in scores.T] for scores in self.scores]
        return np.array(by_schedule, dtype=np.float32)

    @property
    def highest(self) -> NDArray[np.int64]:
        """Number of prompts in which a role has the highest score of all: int64 (schedules, roles)."""
        scores = np.where(np.isnan(self.scores), -np.inf, self.scores)
        return (scores == scores.max(axis=2, keepdims=True)).sum(axis=1)


def relevance_by_role(
    pipe: Any,
    prompts: Sequence[str],
    roles: Sequence[Roles],
    schedules: Sequence[ScheduleKind] = ("uniform", "early", "late"),
    *,
    seed: int = 0,
    num_inference_steps: int = 30,
    schedule_strength: float = 60,
    progress: Progress = True,
    **arguments: Any,
) -> RoleRelevance:
    """Compute the relevance of the words of many prompts by role, under several sampling schemes.

    Args:
        pipe: A pipeline, as for `relevance`.
        prompts: One prompt or more.
        roles: For each prompt, role by word; words as for `Trace.heat_map`.
        schedules: "uniform", "early", "late".
        seed: Seed of the first prompt's noise; each further prompt uses the next one, the same under every scheme.
        num_inference_steps: Number of denoising steps.
        schedule_strength: Strength of "early" and "late", as for `dv.trace`.
        progress: True, False, or a function of (done, total) that may raise to cancel.
        **arguments: Any other argument of `relevance`.

    Returns:
        The curves of all roles.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the lists differ in length, or a value is invalid.
        KeyError: If a word is not in its prompt.

    Example:
        >>> roles = [{"red": "colour", "circle": "object"}]
        >>> result = dv.explain.relevance_by_role(
        ...     dv.load(), ["a red circle"], roles, ["uniform"], num_inference_steps=2, progress=False
        ... )
        >>> result.roles, result.curves.shape
        (['colour', 'object'], (1, 1, 2, 2))
    """
    _check_lists(prompts, roles, schedules)
    check_progress(progress)
    first = count("seed", seed, 0, MAX_SEED - len(prompts))
    count("num_inference_steps", num_inference_steps, 1, MAX_STEPS)
    names = list(dict.fromkeys(role for roles_of_words in roles for role in roles_of_words.values()))
    curves: list[list[Floats]] = [[] for _ in schedules]
    with tracking(progress, len(schedules) * len(prompts), "relevance by role") as tell:
        for index, (prompt, roles_of_words) in enumerate(zip(prompts, roles, strict=True)):
            for row, schedule in enumerate(schedules):
                result = relevance(
                    pipe,
                    prompt,
                    seed=first + index,
                    num_inference_steps=num_inference_steps,
                    schedule=schedule,
                    schedule_strength=schedule_strength,
                    progress=False,
                    **arguments,
                )
                curves[row].append(by_role(result, roles_of_words, names))
                tell(1)
    return RoleRelevance(list(schedules), names, np.array(curves, dtype=np.float32))


def _check_lists(prompts: Any, roles: Any, schedules: Any) -> None:
    for prompt in (texts := items("prompts", prompts, "a list of texts")):
        text("prompts", prompt)
    for of_prompt in (role_maps := items("roles", roles, 'a list of dicts, such as [{"red": "colour"}]')):
        for word, role in instance("roles", of_prompt, Mapping, "dicts of role by word").items():
            instance("roles", word, (str, int), "dicts of role by word, a text or an index")
            text("roles", role)
    for schedule in (names := items("schedules", schedules, 'a list, such as ["uniform", "early"]')):
        choice("schedules", schedule, ("uniform", "early", "late"))
    if not texts or not names:
        raise ValueError(f"{'schedules' if texts else 'prompts'} must have one entry or more, not []")
    if len(texts) != len(role_maps):
        raise ValueError(f"roles must say the roles of each prompt: {len(texts)} prompts, {len(role_maps)} given")


def by_role(word_relevance: Relevance, roles: Roles, names: Sequence[str]) -> Floats:
    """Average the scaled curves of the words of each role.

    Args:
        word_relevance: Relevance of a run.
        roles: Role by word.
        names: Roles, in the order of the result.

    Returns:
        float32 (len(names), T); NaN for a role without words.
    """
    of_role: dict[str, list[Floats]] = {name: [] for name in names}
    for word, role in roles.items():
        of_role[role] += [word_relevance.scaled[:, index] for index in pick_words(word_relevance.trace.words, word)]
    nothing = np.full(len(word_relevance.scaled), np.nan, dtype=np.float32)
    return np.stack([np.mean(curves, axis=0) if curves else nothing for curves in of_role.values()])
