"""The conditions that an expectation consists of, as immutable values that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Half = Literal["left", "right", "top", "bottom"]
Operator = Literal[">", ">=", "<", "<=", "=", "!="]
QuantityName = Literal[
    "number", "meter", "share", "map", "emergence", "weight", "steps", "seed", "guidance", "runs", "seeds"
]
When = Literal["first", "last", "any", "every", "average"] | int
"""A step: the first or last one, any or every one, the mean over all, or its index."""

CHANGES_BY_STEP = frozenset({"meter", "share", "map"})


@dataclass(frozen=True)
class Quantity:
    """A number that a run has.

    Attributes:
        name: which; "number" is a literal.
        of: the concept or word, in lower case; "" where it has none.
        half: of the image, for "map"; "" for the others.
        value: of a literal.
    """

    name: QuantityName
    of: str = ""
    half: Half | Literal[""] = ""
    value: float = 0.0

    def data(self) -> dict[str, Any]:
        """Describes the quantity.

        Returns:
            Its fields, as JSON takes them.
        """
        return {"name": self.name, "of": self.of, "half": self.half, "value": self.value}


@dataclass(frozen=True)
class Comparison:
    """Two numbers compared.

    Attributes:
        left: the first number.
        operator: between them.
        right: the second number.
        when: the step; "last" where neither number changes from step to step.
    """

    left: Quantity
    operator: Operator
    right: Quantity
    when: When = "last"

    def data(self) -> dict[str, Any]:
        """Describes the condition.

        Returns:
            Its fields, as JSON takes them.
        """
        left, right = self.left.data(), self.right.data()
        return {"kind": "compare", "left": left, "operator": self.operator, "right": right, "when": self.when}


@dataclass(frozen=True)
class PromptCondition:
    """A word or phrase that the prompt has, or lacks.

    Attributes:
        phrase: in lower case.
        present: whether the prompt must have it.
    """

    phrase: str
    present: bool

    def data(self) -> dict[str, Any]:
        """Describes the condition.

        Returns:
            Its fields, as JSON takes them.
        """
        return {"kind": "prompt", "phrase": self.phrase, "present": self.present}


@dataclass(frozen=True)
class ScheduleCondition:
    """The schedule that the run has, or has not.

    Attributes:
        schedule: "uniform", "early" or "late".
        equal: whether the run must have it.
    """

    schedule: str
    equal: bool

    def data(self) -> dict[str, Any]:
        """Describes the condition.

        Returns:
            Its fields, as JSON takes them.
        """
        return {"kind": "schedule", "schedule": self.schedule, "equal": self.equal}


Condition = Comparison | PromptCondition | ScheduleCondition
