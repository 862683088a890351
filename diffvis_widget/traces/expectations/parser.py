"""Reads an expectation: conditions such as ``meter("circle") > meter("square") at the last step``, joined by "and".

The grammar is this module's own, and nothing is ever executed::

    expectation = condition {"and" condition}
    condition   = number-like operator number-like ["at" step]
                | "prompt" ("has" | "lacks") text
                | "schedule" ("=" | "!=") ("uniform" | "early" | "late")
    number-like = number | "steps" | "seed" | "guidance" | "runs" | "seeds"
                | ("meter" | "share" | "emergence" | "weight") "(" text ")"
                | "map" "(" text "," ("left" | "right" | "top" | "bottom") ")"
    operator    = ">" | ">=" | "<" | "<=" | "=" | "!="
    step        = "the first step" | "the last step" | "any step" | "every step" | "step" number
                ; "on average" instead of "at ..." compares the means over the steps
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast, get_args

from diffvis_widget.arguments import did_you_mean, shorten

from .conditions import (
    CHANGES_BY_STEP,
    Comparison,
    Condition,
    Half,
    Operator,
    PromptCondition,
    Quantity,
    QuantityName,
    ScheduleCondition,
    When,
)

MAX_LENGTH = 1000  # characters of an expectation
MAX_CONDITIONS = 16
MAX_PHRASE = 200  # characters of a word or concept
EXAMPLE = """meter("circle") > meter("square") at the last step"""
SCHEDULES = ("uniform", "early", "late")
TEXT_QUANTITIES = ("meter", "share", "emergence", "weight", "map")
PLAIN_QUANTITIES = ("steps", "seed", "guidance", "runs", "seeds")
STARTS = ("prompt", "schedule", *TEXT_QUANTITIES, *PLAIN_QUANTITIES)
SPELLINGS = {"==": "=", "is": "=", "≥": ">=", "≤": "<=", "≠": "!=", "not": "!="}
NAMED_STEPS: dict[str, When] = {"first": "first", "last": "last", "any": "any", "every": "every"}
_TOKEN = re.compile(
    r"""(?P<space>\s+)|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|“(?P<curly>[^”]*)”|‘(?P<curl>[^’]*)’"""
    r"""|(?P<number>-?\d{1,15}(?:\.\d{1,15})?)|(?P<name>[a-z_]+)|(?P<mark>>=|<=|==|!=|[<>=≥≤≠(),])""",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Expectation:
    """What a note expects of a run.

    Attributes:
        text: as it was written.
        conditions: all of which must hold, at least one.
    """

    text: str
    conditions: tuple[Condition, ...]

    def data(self) -> dict[str, Any]:
        """Describes the expectation, for the page.

        Returns:
            Text and conditions, as JSON takes them.
        """
        return {"text": self.text, "conditions": [condition.data() for condition in self.conditions]}


@dataclass(frozen=True)
class _Token:
    kind: str  # "text", "number", "name", "mark" or "end"
    value: str
    start: int


def parse_expectation(text: Any) -> Expectation:
    """Reads an expectation.

    Args:
        text: conditions joined by "and".

    Returns:
        The expectation.

    Raises:
        ValueError: it is no text, or not of this form; the message says where and what would work.

    Example:
        >>> parse_expectation('prompt has "moon" and seed != 7').conditions[0].data()
        {'kind': 'prompt', 'phrase': 'moon', 'present': True}
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH:
        raise ValueError(
            f"expects must be a text of 1 to {MAX_LENGTH} characters, such as '{EXAMPLE}', not {shorten(text)}"
        )
    parser = _Parser(text)
    conditions = [parser.condition()]
    while parser.takes("and"):
        conditions.append(parser.condition())
    if not parser.is_at_end:
        parser.refuse('"and" and another condition, or the end')
    if len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"expects can have {MAX_CONDITIONS} conditions, not {len(conditions)}")
    return Expectation(text, tuple(conditions))


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            hint = "a quotation mark has no partner" if text[position] in "\"'“‘" else "this character has no meaning"
            raise ValueError(f"expects: {hint} at {shorten(text[position : position + 20])} in {shorten(text)}")
        group = str(match.lastgroup)
        if group != "space":
            kind = "text" if group in ("double", "single", "curly", "curl") else group
            value = match[group] if kind == "text" else match[group].lower()
            tokens.append(_Token(kind, value, position))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    @property
    def is_at_end(self) -> bool:
        return self._token.kind == "end"

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def takes(self, *values: str) -> bool:
        # Whether the next token is one of these names or marks; it is consumed if so.
        matches = self._token.kind in ("name", "mark") and self._token.value in values
        self._next += matches
        return matches

    def refuse(self, wanted: str, names: Sequence[str] = ()) -> NoReturn:
        token = self._token
        written = "the end" if self.is_at_end else shorten(self._text[token.start : token.start + 30])
        before = self._text[: token.start].rstrip()[-30:]
        place = f"after {before!r}" if before else "at its beginning"
        hint = did_you_mean(token.value, names) if token.kind == "name" else ""
        raise ValueError(f"expects: {place} {wanted} must come, not {written}{hint}; an example is '{EXAMPLE}'")

    def condition(self) -> Condition:
        if self.takes("prompt"):
            if not (has := self.takes("has", "contains")) and not self.takes("lacks"):
                self.refuse('"has" or "lacks"', ("has", "contains", "lacks"))
            return PromptCondition(self._phrase("prompt has"), has)
        if self.takes("schedule"):
            operator = self._operator()
            if operator not in ("=", "!="):
                self._next -= 1
                self.refuse('"=" or "!="')
            return ScheduleCondition(self._one_of(SCHEDULES, "schedule ="), operator == "=")
        left = self._quantity()
        operator = self._operator()
        right = self._quantity()
        changes = bool({left.name, right.name} & CHANGES_BY_STEP)
        if left.name == right.name == "number":
            raise ValueError(
                f"expects: {left.value:g} {operator} {right.value:g} compares two numbers that never change"
            )
        return Comparison(left, operator, right, self._when(left if changes else None, left, right))

    def _quantity(self) -> Quantity:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return Quantity("number", value=float(token.value))
        if self.takes(*PLAIN_QUANTITIES):
            return Quantity(cast(QuantityName, token.value))
        if not self.takes(*TEXT_QUANTITIES):
            self.refuse(f"a number or one of {', '.join(STARTS)}", STARTS)
        name = cast(QuantityName, token.value)
        if not self.takes("("):
            self.refuse(f'"(", as in {name}("circle"),')
        phrase = self._phrase(f"{name}(")
        half: Any = ""
        if name == "map":
            if not self.takes(","):
                self.refuse('a comma and a half of the image, as in map("circle", "left"),')
            half = self._one_of(get_args(Half), 'map("circle",')
            if " " in phrase:
                raise ValueError(f"expects: map takes one word of the prompt, not {shorten(phrase)}")
        if not self.takes(")"):
            self.refuse('")"')
        return Quantity(name, phrase, half)

    def _phrase(self, after: str) -> str:
        token = self._token
        phrase = " ".join(token.value.lower().split())
        if token.kind != "text":
            self.refuse(f'a text in quotation marks, as in {after} "circle",')
        if not re.search(r"\w", phrase) or len(phrase) > MAX_PHRASE:
            raise ValueError(
                f"expects: {after} takes words of at most {MAX_PHRASE} characters, not {shorten(token.value)}"
            )
        self._next += 1
        return phrase

    def _one_of(self, names: Sequence[str], after: str) -> str:
        token = self._token
        if token.kind not in ("text", "name") or token.value.lower() not in names:
            self.refuse(f"{after} one of {', '.join(names)}", names)
        self._next += 1
        return token.value.lower()

    def _operator(self) -> Operator:
        token = self._token
        spelling = SPELLINGS.get(token.value, token.value)
        if token.kind not in ("mark", "name") or spelling not in get_args(Operator):
            self.refuse(f"one of {' '.join(get_args(Operator))}")
        self._next += 1
        if token.value == "is" and self.takes("not"):
            return "!="
        return cast(Operator, spelling)

    def _when(self, changing: Quantity | None, left: Quantity, right: Quantity) -> When:
        start = self._token
        if self.takes("on"):
            if not self.takes("average"):
                self.refuse('"average"')
            when: When = "average"
        elif self.takes("at"):
            when = self._step()
        else:
            return "last"
        if changing is None:
            names = " and ".join(quantity.name for quantity in (left, right) if quantity.name != "number")
            written = self._text[start.start : self._token.start].strip()
            raise ValueError(
                f"expects: {names} of a run {'is' if ' and ' not in names else 'are'} the same at all steps: "
                f"leave out {written!r}"
            )
        return when

    def _step(self) -> When:
        self.takes("the")
        token = self._token
        if self.takes(*NAMED_STEPS):
            if not self.takes("step"):
                self.refuse('"step"')
            return NAMED_STEPS[token.value]
        if not self.takes("step"):
            self.refuse('"the first step", "the last step", "any step", "every step" or "step 12"')
        number = self._token
        if number.kind != "number" or "." in number.value or not 1 <= int(number.value) <= 100_000:
            self.refuse("the number of a step, counted from 1 as on the slider,")
        self._next += 1
        return int(number.value) - 1
