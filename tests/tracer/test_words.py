"""Tokens to words: as typed, in every script, with what is special, padding or cut off told apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.words import find_words, read_tokens
from diffvis_widget.traces import Word
from tests import pipelines

TOKENIZER = pipelines.clip_tokenizer()
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def words(text: str, length: int = 77, tokenizer: Any = TOKENIZER) -> list[Word]:
    seen = tokenizer(text, padding="max_length", max_length=length, truncation=True)
    return find_words(read_tokens(tokenizer, seen.encodings[0]), text, text)


def typed(text: str) -> list[str]:
    return [word.text for word in words(text) if word.kind == "word"]


def test_a_plain_prompt() -> None:
    assert words("a red circle") == [
        Word("<|startoftext|>", (0,), "special"),
        Word("a", (1,), "word", ("a",)),
        Word("red", (2,), "word", ("red",)),
        Word("circle", (3, 4), "word", ("cir", "cle")),
        Word("<|endoftext|>", (5,), "special"),
        Word("padding", tuple(range(6, 77)), "padding"),
    ]


def test_an_empty_prompt() -> None:
    assert [word.kind for word in words("")] == ["special", "special", "padding"]
    assert [word.kind for word in words("  \n ")] == ["special", "special", "padding"]


PROMPTS = [
    "Don't paint HALF-timbered   houses, 30 of them!!",
    f"{FAMILY} laughing 👍🏽, very 🌈",
    "שלום עולם, a red circle",
    "مرحبا بالعالم",
    "cafe\u0301 naïve Œuvre ﬁne",
    "日本語 и русский",
    "<b>bold</b> <script>alert(1)</script>",
    "...!?;() -- “quoted” ‘x’",
    "a" * 60,
    "\u200d\ufe0f",
]


@pytest.mark.parametrize("text", PROMPTS)
def test_every_position_belongs_to_one_word_and_every_character_is_shown(text: str) -> None:
    merged_words = words(text)
    positions = sorted(position for word in merged_words for position in word.tokens)
    assert positions == list(range(77))
    shown = "".join(word.text for word in merged_words if word.kind == "word")
    assert shown == "".join(text.split())  # as typed: case, accents, order
    first = [word.tokens[0] for word in merged_words]
    assert first == sorted(first)
    for word in merged_words:
        assert list(word.tokens) == list(range(word.tokens[0], word.tokens[-1] + 1))
        assert word.kind != "word" or len(word.token_texts) == len(word.tokens)


def test_words_keep_case_and_punctuation_stands_alone() -> None:
    assert typed("Don't paint HALF-timbered houses!") == ["Don't", "paint", "HALF", "-", "timbered", "houses", "!"]
    assert typed(f"{FAMILY} red") == [FAMILY, "red"]
    assert typed("30 circles") == ["30", "circles"]


def test_a_token_over_several_marks_joins_them() -> None:
    vocabulary = TOKENIZER.get_vocab()
    assert "!!</w>" in vocabulary
    assert typed("wow!!") == ["wow", "!!"]


def test_a_prompt_of_two_hundred_words() -> None:
    text = " ".join(f"w{index}" for index in range(200))
    merged_words = words(text)
    assert [word.text for word in merged_words if word.kind in ("word", "truncated")] == text.split()
    seen = [word for word in merged_words if word.kind == "word"]
    cut = [word for word in merged_words if word.kind == "truncated"]
    assert seen
    assert cut
    assert all(word.tokens == () for word in cut)
    assert max(position for word in seen for position in word.tokens) <= 75
    end = next(word for word in merged_words if word.kind == "special" and word.tokens != (0,))
    assert end.tokens == (76,)
    assert all(word.kind != "padding" for word in merged_words)


def test_a_word_cut_in_the_middle_keeps_what_was_seen() -> None:
    merged_words = words("a circle circle", length=5)  # <start> a cir cle <end>
    assert [(word.text, word.tokens, word.kind) for word in merged_words if word.kind != "special"] == [
        ("a", (1,), "word"),
        ("circle", (2, 3), "word"),
        ("circle", (), "truncated"),
    ]
    merged_words = words("a circle", length=4)
    assert [(word.text, word.tokens, word.kind) for word in merged_words if word.kind != "special"] == [
        ("a", (1,), "word"),
        ("circle", (2,), "word"),
    ]


def test_special_tokens_typed_in_the_prompt() -> None:
    merged_words = words("a <|endoftext|> b")
    assert sorted(position for word in merged_words for position in word.tokens) == list(range(77))


def byte_level() -> PreTrainedTokenizerFast:
    """The kind that language-model encoders use: a token takes the space before it along."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["a red circle above a blue square"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def sentence_piece() -> PreTrainedTokenizerFast:
    """The kind that T5 uses: a unigram model over text in which spaces are marked."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(["a red circle above a blue square", "two red houses"] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_other_tokenizers_go_through_the_same_merger(make: object) -> None:
    assert callable(make)
    merged_words = words("A red circle, above 👍 !", 40, make())
    assert merged_words is not None
    assert [word.text for word in merged_words if word.kind == "word"] == [
        "A",
        "red",
        "circle",
        ",",
        "above",
        "👍",
        "!",
    ]
    assert sorted(position for word in merged_words for position in word.tokens) == list(range(40))
    assert [word.kind for word in merged_words][-2:] == ["special", "padding"]


def test_sdxl_shows_the_words_of_both_prompts() -> None:
    pipe = pipelines.stable_diffusion_xl()
    with Tracer(pipe) as tracer:
        pipe("a red circle", prompt_2="old photograph", num_inference_steps=1)
    traced_words = tracer.trace.words
    assert [word.text for word in traced_words if word.kind == "word"] == ["a", "red", "circle", "old", "photograph"]
    assert tracer.trace.heat_map("photograph").shape == tracer.trace.heat_map("red").shape
    with Tracer(pipe) as tracer:
        pipe("a red circle", prompt_2="a red circle", num_inference_steps=1)
    assert [word.text for word in tracer.trace.words if word.kind == "word"] == ["a", "red", "circle"]


def test_words_learned_by_textual_inversion_stay_one_word() -> None:
    pipe = pipelines.stable_diffusion()
    width = pipe.text_encoder.config.hidden_size
    pipe.load_textual_inversion({"<my-toy>": torch.zeros(2, width)})
    with Tracer(pipe) as tracer:
        pipe("a <my-toy> on grass", num_inference_steps=1)
    texts = [word.text for word in tracer.trace.words if word.kind == "word"]
    assert texts[0] == "a"
    assert texts[-2:] == ["on", "grass"]
    assert "<my-toy>" in texts[1]
