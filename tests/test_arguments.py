"""Every public function refuses wrong arguments by name: never silently, never by an error from within.

The test walks the public functions, takes a valid call of each, and replaces one argument after the other by values of
other types, NaN, infinity, huge and negative numbers and empty lists, chosen by the type hints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.argument_calls import CALLS, EXEMPT, SETTERS, Material, public_callables
from tests.argument_values import NONSENSE, WRONG, fits, parameters


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    made = Material(tmp_path_factory.mktemp("arguments"))
    yield made
    made.close()


def test_every_public_callable_is_walked_or_exempt_with_a_reason() -> None:
    names = set(public_callables())
    missing = names - CALLS.keys() - EXEMPT.keys()
    assert not missing, f"add a valid call to tests/argument_calls.py: {', '.join(sorted(missing))}"
    assert not EXEMPT.keys() - names, "exempt, and not there"
    assert not EXEMPT.keys() & CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_wrong_values_are_refused_by_name(material: Material, name: str) -> None:
    function, valid = CALLS[name](material)
    faults: list[str] = []
    for argument, hint in parameters(function).items():
        for label, value in WRONG.items():
            if fits(hint, value) and label not in NONSENSE and not label.startswith("an empty"):
                continue
            if fault := _fault(
                partial(function, **{**valid, argument: value}),
                [],
                argument,
                silent=fits(hint, value) and label not in NONSENSE,
            ):
                faults.append(f"{argument}={label}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


def _fault(function: Callable[..., Any], arguments: list[Any], argument: str, *, silent: bool) -> str | None:
    """What is wrong with the answer to these arguments; None where they are refused by name."""
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - any error is the subject of the test
        message = str(error)
        singular = argument.rstrip("s")
        return None if re.search(rf"\b{singular}", message) else f"{type(error).__name__}: {message[:150]}"
    return None if silent else "was taken"


@pytest.mark.parametrize("name", SETTERS)
def test_wrong_values_of_traits_and_properties_are_refused_by_name(material: Material, name: str) -> None:
    owner, hint = SETTERS[name](material)
    attribute = name.split(".")[1]
    faults: list[str] = []
    for label, value in WRONG.items():
        is_meant = fits(hint, value) and label not in NONSENSE
        if is_meant and not label.startswith("an empty"):
            continue
        if fault := _fault(partial(setattr, owner, attribute), [value], attribute, silent=is_meant):
            faults.append(f"{label}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("name", CALLS)
def test_misspelt_arguments_are_refused_by_name(material: Material, name: str) -> None:
    function, valid = CALLS[name](material)
    for argument in parameters(function):
        misspelt = argument[:-1] + argument[-1] * 2
        with pytest.raises(TypeError, match=misspelt):
            function(**valid, **{misspelt: 1})
