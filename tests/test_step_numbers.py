"""People read step 1 to T; indices run from 0 to T - 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import diffvis_widget as dv
from diffvis_widget.step_numbers import index_of_step


@pytest.mark.parametrize("index", [0, 29, np.int64(4), np.float32(7.0)], ids=repr)
def test_an_index_and_its_number_belong_together(index: Any) -> None:
    number = dv.step_number(index)
    assert number == int(index) + 1
    assert type(number) is int
    assert index_of_step(number) == index


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (float("nan"), TypeError, "index must be an integer from 0 to 99999, not nan"),
        (1.5, TypeError, "not 1.5"),
        (True, TypeError, "not True"),
        (-1, ValueError, "index must be an integer from 0 to 99999, not -1"),
    ],
    ids=str,
)
def test_what_is_no_index_is_refused(index: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        dv.step_number(index)


def test_there_is_no_step_before_the_first() -> None:
    with pytest.raises(ValueError, match="number must be an integer of 1 or more, not 0"):
        index_of_step(0)
