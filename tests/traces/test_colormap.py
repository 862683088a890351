"""Colours of words, as on the page (js/tests/core/colormap.test.ts has the same cases)."""

from __future__ import annotations

import pytest

from diffvis_widget.traces.colormap import word_colours


@pytest.mark.parametrize(
    ("texts", "colours"),
    [
        (["circle", "square"], ["e69f00", "56b4e9"]),
        (["blue", "square", "ball"], ["2f6fdb", "e69f00", "cc79a7"]),
        (["a Red circle,", "star", "red"], ["d03a30", "e69f00", "56b4e9"]),
        (["window", "tomato"], ["e69f00", "56b4e9"]),
        (["red and blue", "sky"], ["e69f00", "56b4e9"]),
        (
            ["red", "yellow", "green", "blue", "pink", "one", "two"],
            ["d03a30", "c9a200", "2f9e44", "2f6fdb", "e0609a", "e69f00", "56b4e9"],
        ),
    ],
)
def test_colour_words_have_their_own_colour_and_others_one_unlike_those(texts: list[str], colours: list[str]) -> None:
    assert [bytes(colour).hex() for colour in word_colours(texts)] == colours
