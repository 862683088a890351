"""Splitting prompts into words."""

from __future__ import annotations

import pytest

from diffvis_widget.traces.prompt_words import split_words

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
THUMB = "\U0001f44d\U0001f3fd"
FLAGS = "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a red circle", ["a", "red", "circle"]),
        ("", []),
        ("  \n\t ", []),
        ("Don't stop, half-timbered!", ["Don't", "stop", ",", "half", "-", "timbered", "!"]),
        ("l’été '90s 'quoted'", ["l’été", "'", "90s", "'", "quoted", "'"]),
        ("cafe\u0301 no\u0303", ["cafe\u0301", "no\u0303"]),
        ("a_b 30mm f/1.8", ["a_b", "30mm", "f", "/", "1", ".", "8"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        (f"{FAMILY}{THUMB} {FLAGS}", [FAMILY, THUMB, FLAGS[:2], FLAGS[2:]]),
        ("❤️!!", ["❤️", "!", "!"]),
        ("<b>x</b>", ["<", "b", ">", "x", "<", "/", "b", ">"]),
        # the page splits these alike: js/tests/core/splitPrompt.test.ts
        ("the boy's 2 boats", ["the", "boy's", "2", "boats"]),
        ("قِطَّة سوداء،", ["قِطَّة", "سوداء", "،"]),
        ("हिन्दी में बिल्ली", ["हिन्दी", "में", "बिल्ली"]),
        ("नि\u200dक", ["नि\u200dक"]),
        ("แมวดำบนน้ำ", ["แ", "ม", "ว", "ดำ", "บ", "น", "น้ำ"]),
        ("ကြောင်္မ", ["ကြော", "င်္မ"]),
        ("ឆ្មា", ["ឆ្មា"]),
        ("一只黑猫", ["一", "只", "黑", "猫"]),
        ("草の上の猫、カメラ", ["草", "の", "上", "の", "猫", "、", "カ", "メ", "ラ"]),
        ("ｶﾞ", ["ｶﾞ"]),
        ("한국어 고양이", ["한국어", "고양이"]),
        ("5\u20e3 x\u0301!", ["5\u20e3", "x\u0301", "!"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words


def test_every_visible_character_is_in_exactly_one_word() -> None:
    text = f"A {THUMB} of «naïve» {FAMILY}-art; 日本語, (x)… 'tis {FLAGS}"
    covered = [index for start, end in split_words(text) for index in range(start, end)]
    assert covered == [index for index, character in enumerate(text) if not character.isspace()]
