"""Evaluates an expectation on a run. js/src/drawers/notes/expectations.ts does the same; a golden file ties both."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .conditions import CHANGES_BY_STEP, Comparison, Condition, PromptCondition, Quantity, ScheduleCondition
from .parser import Expectation

Series = Sequence["float | None"]
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Outcome:
    """Whether a run is what a note expects.

    Attributes:
        met: whether all conditions hold.
        reason: what was found, or what is missing; one sentence without a full stop.

    Example:
        >>> import diffvis_widget as dv
        >>> trace = dv.trace(dv.load(), "a red circle", num_inference_steps=2)
        >>> dv.Note("Paint more steps.", expects="steps > 10").outcome(trace).met
        False
    """

    met: bool
    reason: str


@dataclass(frozen=True)
class ConceptFacts:
    """What is known about one concept.

    Attributes:
        cosine: its meter at each step, None where it is not measured.
        share: its share among the concepts at each step; None for a single concept.
        emergence: index of the step at which it emerges, or None.
    """

    cosine: Series
    share: Series | None
    emergence: int | None


class RunFacts(Protocol):
    """What an expectation can ask about a run."""

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        ...

    @property
    def prompt(self) -> str:
        """The prompt."""
        ...

    @property
    def seed(self) -> int | None:
        """The seed, None where it is not known."""
        ...

    @property
    def steps(self) -> int:
        """The number of finished steps."""
        ...

    @property
    def guidance(self) -> float | None:
        """The guidance scale, None where it is not known."""
        ...

    @property
    def schedule(self) -> str:
        """Where the steps are spent."""
        ...

    @property
    def weights(self) -> Mapping[str, float | None]:
        """Factors of weighted words, in lower case; None for a dropped word."""
        ...

    @property
    def other_runs(self) -> Sequence[tuple[str, int | None]]:
        """Prompt and seed of the other finished runs."""
        ...

    def concept(self, name: str) -> ConceptFacts | None:
        """What is known about a concept.

        Args:
            name: in lower case.

        Returns:
            Its scores, None where it is not measured.
        """
        ...

    def half_of_map(self, word: str, half: str) -> Series | None:
        """How much of a word's heat map lies in a half of the image.

        Args:
            word: in lower case.
            half: "left", "right", "top" or "bottom".

        Returns:
            A share, 0..1, for each step; None where there is no such word or map.
        """
        ...


class _Missing(Exception):
    """A number that the run does not have; the message says why."""


def evaluate(expectation: Expectation, run: RunFacts) -> Outcome:
    """Checks a run against an expectation.

    Args:
        expectation: what is expected.
        run: the run.

    Returns:
        Whether it is met. The reason names the conditions that are not met, or all where all are.
    """
    if not run.is_finished or run.steps == 0:
        return Outcome(False, "the run is not finished")
    outcomes = [_outcome(condition, run) for condition in expectation.conditions]
    met = all(outcome.met for outcome in outcomes)
    reasons = dict.fromkeys(outcome.reason for outcome in outcomes if met or not outcome.met)
    return Outcome(met, "; ".join(reasons))


def _outcome(condition: Condition, run: RunFacts) -> Outcome:
    if isinstance(condition, PromptCondition):
        present = _has_phrase(run.prompt, condition.phrase)
        reason = f"the prompt has {'' if present else 'no '}“{condition.phrase}”"
        return Outcome(present == condition.present, reason)
    if isinstance(condition, ScheduleCondition):
        return Outcome((run.schedule == condition.schedule) == condition.equal, f"the schedule is {run.schedule}")
    try:
        return _compare(condition, run)
    except _Missing as missing:
        return Outcome(False, str(missing))


def _has_phrase(prompt: str, phrase: str) -> bool:
    words, wanted = _words(prompt), _words(phrase)
    return bool(wanted) and any(
        words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1)
    )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _compare(condition: Comparison, run: RunFacts) -> Outcome:
    left, right = _series(condition.left, run), _series(condition.right, run)
    holds = _OPERATORS[condition.operator]
    changes = bool({condition.left.name, condition.right.name} & CHANGES_BY_STEP)

    def values_at(step: int) -> tuple[float, float]:
        return _at(condition.left, left, step), _at(condition.right, right, step)

    def outcome(values: tuple[float, float], when: str, met: bool | None = None) -> Outcome:
        described = [
            _describe(quantity, value)
            for quantity, value in zip((condition.left, condition.right), values, strict=True)
            if quantity.name != "number"
        ]
        return Outcome(holds(*values) if met is None else met, ", ".join(described) + (f" {when}" if changes else ""))

    last = run.steps - 1
    match condition.when:
        case "average":
            return outcome(
                (_mean(condition.left, left, run.steps), _mean(condition.right, right, run.steps)), when="on average"
            )
        case "any":
            step = next((step for step in range(run.steps) if holds(*values_at(step))), None)
            if step is None:
                return outcome(values_at(last), f"at step {last + 1}, and at no step as expected", False)
        case "every":
            step = next((step for step in range(run.steps) if not holds(*values_at(step))), None)
            if step is None:
                return outcome(values_at(last), f"at step {last + 1}, and at every step as expected", True)
        case "first":
            step = 0
        case "last":
            step = last
        case int(step):
            if step > last:
                raise _Missing(f"this run has {run.steps} steps")
    return outcome(values_at(step), f"at step {step + 1}")


def _series(quantity: Quantity, run: RunFacts) -> Series:
    """The number at all steps. _Missing where the run has none."""
    match quantity.name:
        case "meter" | "share":
            concept = _concept(quantity, run)
            values = concept.cosine if quantity.name == "meter" else concept.share
            if values is None:
                raise _Missing("a share needs two concepts at least: add another one to the meters")
            return values
        case "map":
            shares = run.half_of_map(quantity.of, quantity.half)
            if shares is None:
                raise _Missing(f"there is no heat map of “{quantity.of}”")
            return shares
        case _:
            return [_constant(quantity, run)] * run.steps


def _constant(quantity: Quantity, run: RunFacts) -> float:
    match quantity.name:
        case "steps":
            return run.steps
        case "seed":
            return _known("seed", run.seed)
        case "guidance":
            return _known("guidance", run.guidance)
        case "runs":
            return 1 + len(run.other_runs)
        case "seeds":
            return len({run.seed, *(seed for prompt, seed in run.other_runs if prompt == run.prompt)})
        case "weight":
            if not _has_phrase(run.prompt, quantity.of):
                raise _Missing(f"the prompt has no “{quantity.of}”")
            return run.weights.get(quantity.of, 1.0) or 0.0
        case "emergence":
            concept = _concept(quantity, run)
            if len(concept.cosine) < run.steps or None in concept.cosine:
                raise _Missing(f"“{quantity.of}” is not measured at every step yet")
            if concept.emergence is None:
                raise _Missing(f"“{quantity.of}” does not emerge")
            return concept.emergence + 1
        case _:
            return quantity.value


def _concept(quantity: Quantity, run: RunFacts) -> ConceptFacts:
    concept = run.concept(quantity.of)
    if concept is None:
        raise _Missing(f"“{quantity.of}” is not measured: add it to the concepts")
    return concept


def _known(name: str, value: float | None) -> float:
    if value is None:
        raise _Missing(f"the {name} of this run is not known")
    return value


def _at(quantity: Quantity, values: Series, step: int) -> float:
    value = values[step] if step < len(values) else None
    if value is None:
        raise _Missing(f"the {quantity.name} of “{quantity.of}” is not known at step {step + 1}")
    return value


def _mean(quantity: Quantity, values: Series, steps: int) -> float:
    return sum(_at(quantity, values, step) for step in range(steps)) / steps


def _describe(quantity: Quantity, value: float) -> str:
    match quantity.name:
        case "meter" | "share":
            return f"{quantity.name} of “{quantity.of}” {value:.3f}"
        case "map":
            return f"{value:.2f} of the map of “{quantity.of}” in the {quantity.half} half"
        case "emergence":
            return f"“{quantity.of}” emerges at step {_plain(value)}"
        case "weight":
            return f"weight of “{quantity.of}” {_plain(value)}"
        case "steps" | "runs" | "seeds":
            return f"{_plain(value)} {quantity.name[:-1] if value == 1 else quantity.name}"
        case _:
            return f"{quantity.name} {_plain(value)}"


def _plain(value: float) -> str:
    """Without needless zeros, at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
