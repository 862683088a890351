"""Tokens of a tokenizer without offsets, against those that SentencePiece itself reports."""

from __future__ import annotations

from typing import Any

import pytest

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.slow_tokens import locate_pieces, read_slow_tokens
from tests import tiny_tokenizers
from tests.pipelines_kolors import CASES

TEXTS = [
    "A tiny red circle, above a blue square",
    "a  wide   space and\na new line",
    "blüe 猫 and 🦊 beside an é",
    "  in front and behind  ",
    "sop [gMASK] <|user|>",
    "一只红色的猫",
]


def offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Start and end of each piece, as SentencePiece reports them, in bytes."""
    proto = tokenizer.tokenizer.sp_model.encode(text, return_type="proto")
    before = [(text.encode()[: piece.begin], text.encode()[: piece.end]) for piece in proto.pieces]
    return [(len(start.decode()), len(end.decode())) for start, end in before]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_where_sentencepiece_says(text: str) -> None:
    tokenizer = tiny_tokenizers.chat_glm()
    pieces = tokenizer.tokenize(text)
    spans = locate_pieces(text, pieces)
    assert spans is not None
    for piece, span, (start, end) in zip(pieces, spans, offsets(tokenizer, text), strict=True):
        # it reports a character at the last of its bytes, and puts a space of its own before all others
        if start < end and piece.strip("▁"):
            assert (span[1], piece) == (end, piece)
            assert not text[min(start, span[0]) : max(start, span[0])].strip()
    for piece, (start, end) in zip(pieces, spans, strict=True):
        if not piece.startswith("<0x"):
            assert text[start:end].strip() == piece.replace("▁", " ").strip()


def test_special_tokens_padding_and_the_limit_are_told_apart() -> None:
    tokenizer = tiny_tokenizers.chat_glm()
    text = "red circle " * 8
    encoded = tokenizer(text, padding="max_length", max_length=16, truncation=True)
    tokens = read_slow_tokens(tokenizer, text, encoded["input_ids"], encoded["attention_mask"])
    assert tokens is not None
    assert [token.text for token in tokens[:2]] == ["[gMASK]", "sop"]
    assert [token.special for token in tokens] == [True, True] + [False] * 14
    assert "".join(text[token.start : token.end] for token in tokens).strip() == text[: tokens[-1].end].strip()
    encoded = tokenizer("red", padding="max_length", max_length=8, truncation=True)
    tokens = read_slow_tokens(tokenizer, "red", encoded["input_ids"], encoded["attention_mask"])
    assert tokens is not None
    assert [token.attended for token in tokens] == [bool(part) for part in encoded["attention_mask"]]
    assert "red"[tokens[-1].start : tokens[-1].end].endswith("d")


def test_pieces_that_are_not_the_text_are_not_located() -> None:
    assert locate_pieces("red", ["▁", "re", "x"]) is None
    assert locate_pieces("red circle", ["▁red"]) is None
    assert locate_pieces("é", ["<0xC3>"]) is None


def test_kolors_has_the_words_of_both_prompts() -> None:
    pipe = CASES["kolors"].build()
    prompts = ["a blüe 猫 on grass", "two red squares"]
    arguments = CASES["kolors"].arguments | {"negative_prompt": ["fog", "rain"]}
    with Tracer(pipe) as tracer:
        pipe(prompts, **arguments)
    for trace, prompt, negative in zip(tracer.traces, prompts, ["fog", "rain"], strict=True):
        words = [word for word in trace.words if word.kind == "word"]
        assert [word.text for word in words] == (
            ["a", "blüe", "猫", "on", "grass"] if "猫" in prompt else prompt.split()
        )
        names = pipe.tokenizer.convert_ids_to_tokens(
            pipe.tokenizer(prompt, padding="max_length", max_length=256)["input_ids"]
        )
        for word in words[1:]:
            written = "".join(names[token] for token in word.tokens).replace("▁", "")
            escaped = "".join(letter if letter.isascii() else bytes_of(letter) for letter in word.text)
            assert written in (word.text, escaped)
        assert trace.negative is not None
        assert [word.text for word in trace.negative.words if word.kind == "word"] == [negative]


def bytes_of(letter: str) -> str:
    return "".join(f"<0x{part:02X}>" for part in letter.encode())
