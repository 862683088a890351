"""Words of Chinese and Japanese, which put no spaces between them: from dictionaries, where these are installed.

`pip install "diffvis-widget[cjk]"` brings them: jieba for Chinese, fugashi with UniDic for Japanese.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Callable
from typing import Any

from diffvis_widget.traces.prompt_words import is_written_without_spaces

_KANA = re.compile(r"[\u3041-\u30ff\uff66-\uff9d]")
_HAN = re.compile(r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

Segmenter = Callable[[str], list[str]]
"""Splits a text into words; together they make up the text without its white space."""


def segment_words(text: str) -> list[tuple[int, int]]:
    """Find the words of a text in Chinese or Japanese.

    Args:
        text: The text.

    Returns:
        (start, end) of each word of several letters; empty for other scripts, and where no dictionary is installed.
    """
    if not (_KANA.search(text) or _HAN.search(text)):
        return []
    segment = _japanese() if _KANA.search(text) else _chinese()
    if segment is None:
        return []
    spans: list[tuple[int, int]] = []
    end = 0
    for word in segment(text):
        start = text.find(word, end)
        if start < 0:
            continue
        end = start + len(word)
        if len(word) > 1 and all(map(is_written_without_spaces, word)):
            spans.append((start, end))
    return spans


@functools.cache
def _chinese() -> Segmenter | None:
    if importlib.util.find_spec("jieba") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old syntax in jieba
        jieba: Any = importlib.import_module("jieba")
    jieba.setLogLevel(logging.WARNING)
    return lambda text: list(jieba.cut(text))


@functools.cache
def _japanese() -> Segmenter | None:
    if importlib.util.find_spec("fugashi") is None or importlib.util.find_spec("unidic_lite") is None:
        return None
    tagger: Any = importlib.import_module("fugashi").Tagger()
    return lambda text: [word.surface for word in tagger(text)]
