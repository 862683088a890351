"""Words are slices of the prompt, and their tokens cover these slices: every script, tokenizer and normalisation."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from diffvis_widget.tracer.words import find_words, read_tokens
from diffvis_widget.traces import Word
from diffvis_widget.traces.prompt_words import fold_word
from diffvis_widget.traces.selectors import pick_words
from tests import pipelines, tiny_tokenizers

TOKENIZERS: dict[str, Callable[[], Any]] = {
    "clip": pipelines.clip_tokenizer,
    "t5": tiny_tokenizers.t5,
    "qwen": tiny_tokenizers.qwen,
    "gemma": tiny_tokenizers.gemma,
    "llama3": tiny_tokenizers.llama3,
    "bert": tiny_tokenizers.bert,
}
NORMALISATIONS: dict[str, Callable[[str], str]] = {
    "none": str,
    "lower": lambda text: text.lower().strip(),
    "nfc": lambda text: unicodedata.normalize("NFC", text),
    "nfd": lambda text: unicodedata.normalize("NFD", text),
    "nfkc": lambda text: unicodedata.normalize("NFKC", text),
    "cleaned": lambda text: " ".join(html.unescape(html.unescape(text)).split()),
    "template": lambda text: f"user\na cat: {text.strip().lower()}\nassistant",
}
PROMPTS = [
    "\u0130stanbul at NIGHT, 2 Cats",
    "一只黑猫在草地上",
    "草の上の猫、カメラ",
    "แมวดำบนน้ำ",
    "שָׁלוֹם עולם, a red circle",
    "مرحبا بالعالم",
    "Cafe\u0301 naïve ﬁne Straße ΣΟΦΟΣ",
    "हिन्दी में बिल्ली",
    "한국어 고양이",
    "ကြောင်္ မြန်မာ",
    "ខ្មែរ ឆ្មា",
    "a sign that says 'stop'",
    "semi-truck & 'x' &amp; y",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 👍🏽 🇫🇷",
    "ｈａｌｆ ｶﾞ ①",
    "  two   spaces\n here ",
]


def words(prompt: str, tokenizer: Any, encoded: str) -> tuple[list[Word], Any]:
    encoding = tokenizer(encoded).encodings[0]
    return find_words(read_tokens(tokenizer, encoding), encoded, prompt), encoding


def letters(text: str) -> str:
    """Tokenizers that compose letters count a mark to no token: only what stands on its own is compared."""
    unescaped = fold_word(html.unescape(html.unescape(text)))
    # vowels of Hangul syllables count as marks when these are taken apart
    plain = (part for part in unescaped if not part.isspace() and not "\u1161" <= part <= "\u11ff")
    return "".join(part for part in plain if unicodedata.category(part)[0] not in "MC")


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_of_every_word_cover_it_in_the_prompt(name: str, normalisation: str) -> None:
    tokenizer = TOKENIZERS[name]()
    for prompt in PROMPTS:
        encoded = NORMALISATIONS[normalisation](prompt)
        located, encoding = words(prompt, tokenizer, encoded)
        assert sorted(position for word in located for position in word.tokens) == list(range(len(encoding.ids)))
        typed = [word for word in located if word.kind == "word"]
        assert "".join("".join(word.text.split()) for word in typed) == "".join(prompt.split())
        for word in typed:
            assert word.text in prompt
            spans = [encoding.offsets[position] for position in word.tokens]
            covered = encoded[min(start for start, _ in spans) : max(end for _, end in spans)]
            assert letters(covered) == letters(word.text), (prompt, word)


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("一只黑猫在草地上", "猫"),
        ("一只黑猫在草地上", "草地"),
        ("草の上の猫", "上の"),
        ("แมวดำบนน้ำ", "น้ำ"),
    ],
)
def test_any_part_of_a_text_without_spaces_can_be_asked_for(prompt: str, part: str) -> None:
    tokenizer = TOKENIZERS["qwen"]()
    located, encoding = words(prompt, tokenizer, prompt)
    tokens = {position for index in pick_words(located, part) for position in located[index].tokens}
    start = prompt.index(part)
    covering = {
        position
        for position, (first, last) in enumerate(encoding.offsets)
        if first < start + len(part) and start < last
    }
    assert covering <= tokens
    # a dictionary may join a part to a longer word; without one the tokens are exactly those that cover it
    assert tokens == covering or len(located) < len(prompt)
