"""Correlation quantification: which roles of words a sampling scheme attends to, over many prompts.

J.-H. Park, Y.-J. Ju, S.-W. Lee, Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404: relevance scores
summed per role under uniform, early and late sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffvis_widget.schedule import ScheduleKind
from diffvis_widget.traces.selectors import pick_words
from diffvis_widget.traces.types import Floats

from .arguments import choice, count
from .progress import Progress, tracking
from .word_relevance import Relevance, relevance

Roles = Mapping[str, str] | Mapping[int, str]


@dataclass(frozen=True)
class RoleRelevance:
    """Relevance per role and sampling scheme.

    schedules, roles: what the axes stand for. curves: float32 (schedules, prompts, roles, T), of each prompt the mean
    scaled relevance of its words in a role, step by step; NaN where it has none.
    """

    schedules: list[str]
    roles: list[str]
    curves: Floats

    @property
    def scores(self) -> Floats:
        """float32 (schedules, prompts, roles): the sums of the curves over the steps."""
        return self.curves.sum(axis=3)

    @property
    def mean(self) -> Floats:
        """float32 (schedules, roles): over the prompts that have the role."""
        return np.nanmean(self.scores, axis=1).astype(np.float32)

    @property
    def interval(self) -> Floats:
        """float32 (schedules, roles, 2): 95 % interval of the mean, 1.96 standard errors; NaN for a single prompt."""
        known = np.isfinite(self.scores).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.nanstd(self.scores, axis=1) * np.sqrt(known / (known - 1))
            half = 1.96 * spread / np.sqrt(known)
        return np.stack([self.mean - half, self.mean + half], axis=-1).astype(np.float32)


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
    """Relevance of the words of many prompts, by role, under several sampling schemes.

    prompts: texts. roles: for each prompt, word -> role; words as for `Trace.heat_map`. schedules: "uniform", "early",
    "late". seed: of the first prompt's noise; each further prompt takes the next, the same under every scheme. All else
    goes to `relevance`.

    Raises ValueError for lists of other lengths, KeyError for a word that is not in its prompt (before anything runs
    for a text of no prompt at all), and what `relevance` raises.
    """
    if isinstance(prompts, str) or not prompts:
        raise ValueError(f"prompts must be a list of one text or more, not {prompts!r}")
    if len(prompts) != len(roles):
        raise ValueError(f"roles must say the roles of each prompt: {len(prompts)} prompts, {len(roles)} given")
    for schedule in schedules:
        choice("schedules", schedule, ("uniform", "early", "late"))
    first = count("seed", seed, least=0)
    names = list(dict.fromkeys(role for given in roles for role in given.values()))
    curves: list[list[Floats]] = [[] for _ in schedules]
    with tracking(progress, len(schedules) * len(prompts), "relevance by role") as tell:
        for index, (prompt, given) in enumerate(zip(prompts, roles, strict=True)):
            for row, schedule in enumerate(schedules):
                found = relevance(
                    pipe,
                    prompt,
                    seed=first + index,
                    num_inference_steps=num_inference_steps,
                    schedule=schedule,
                    schedule_strength=schedule_strength,
                    progress=False,
                    **arguments,
                )
                curves[row].append(by_role(found, given, names))
                tell(1)
    return RoleRelevance(list(schedules), names, np.array(curves, dtype=np.float32))


def by_role(found: Relevance, roles: Roles, names: Sequence[str]) -> Floats:
    """Mean scaled curve of the words of each role, float32 (len(names), T); NaN where there is none."""
    of_role: dict[str, list[Floats]] = {name: [] for name in names}
    for word, role in roles.items():
        of_role[role] += [found.scaled[:, index] for index in pick_words(found.trace.words, word)]
    nothing = np.full(len(found.scaled), np.nan, dtype=np.float32)
    return np.stack([np.mean(curves, axis=0) if curves else nothing for curves in of_role.values()])
