"""The texts of a pipeline call as its tokenizers saw them.

While `encode_prompt` runs, every call of a tokenizer is noted with what it was given and what it made of it. So a
template, a cleaned prompt, a truncation or a padding need not be known beforehand: they are read off.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diffvis_widget.tracer.hooks import watch
from diffvis_widget.tracer.words import Token, second_words, shifted, tokens_of, words_of
from diffvis_widget.traces import Word

# (pipeline, tokens of a text, text positions) -> those of the tokens that the denoiser sees
Take = Callable[[Any, Sequence[Token], int], list[Token]]


def everything(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Every token has its position."""
    return list(tokens)


def attended(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Padding is left out."""
    return [token for token in tokens if token.attended]


def after_template(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Qwen-Image: neither padding nor the beginning of the template, whose number of tokens the pipeline knows."""
    return attended(pipe, tokens, length)[pipe.prompt_template_encode_start_idx :][:length]


def after_beginning(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Ovis: the beginning of the template is left out, padding is kept."""
    return list(tokens[pipe.user_prompt_begin_id :])


def padded_before(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """CogView4 puts further padding in front, up to a multiple of 16."""
    return [Token("", 0, 0, True, False)] * (length - len(tokens)) + list(tokens)


def first_and_last(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Sana: the start token and the end of the rest, so that a long template drops out."""
    return [*tokens[:1], *tokens[len(tokens) - length + 1 :]]


@dataclass(frozen=True)
class Stream:
    """Text that the denoiser sees through one text encoder, or through several on the same positions.

    tokenizers: attributes of the pipeline. label: what `Word.encoder` says. times: how often it stands in the keys.
    """

    tokenizers: tuple[str, ...]
    label: str = ""
    take: Take = everything
    times: int = 1


@dataclass(frozen=True)
class Tokenized:
    """One call of a tokenizer: the texts it was given, and its tokens of each."""

    tokenizer: Any
    texts: list[str]
    tokens: list[list[Token]]


@contextmanager
def noting(into: list[Tokenized]) -> Iterator[None]:
    """While in it, this thread's calls of any tokenizer are added to `into`."""
    from transformers import PreTrainedTokenizerBase

    thread = threading.get_ident()

    def watcher(original: Callable[..., Any], tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(tokenizer, *args, **kwargs)
        given = args[0] if args else kwargs.get("text")
        encodings = getattr(result, "encodings", None)
        if threading.get_ident() == thread and encodings and isinstance(given, str | list):
            texts = [given] if isinstance(given, str) else list(given)
            if len(texts) == len(encodings) and all(isinstance(text, str) for text in texts):
                into.append(Tokenized(tokenizer, texts, [tokens_of(tokenizer, encoding) for encoding in encodings]))
        return result

    end = watch(PreTrainedTokenizerBase, "__call__", watcher)
    try:
        yield
    finally:
        end()


def stream_words(
    pipe: Any, streams: Sequence[Stream], noted: Sequence[Tokenized], typed: Mapping[str, list[str]], lengths: list[int]
) -> list[list[Word]] | None:
    """The words of each prompt along its text positions; None where the tokenizers do not tell them.

    typed: by tokenizer attribute, the prompts it was meant to read. lengths: text positions of each prompt.
    """
    rows: list[list[Word]] = []
    for row, length in enumerate(lengths):
        words: list[Word] = []
        offset = 0
        for stream in streams:
            prompts = {attribute: typed[attribute][row] for attribute in stream.tokenizers}
            found, size = _one(pipe, stream, noted, prompts, row, length if len(streams) == 1 else None)
            words += shifted(found, *(offset + size * again for again in range(stream.times)))
            offset += size * stream.times
        if not offset or offset > length:
            return None
        # rows padded to one length, or a text encoder that is not there
        rows.append(words if offset == length else _padded(words, range(offset, length)))
    return rows


def _one(
    pipe: Any, stream: Stream, noted: Sequence[Tokenized], prompts: Mapping[str, str], row: int, length: int | None
) -> tuple[list[Word], int]:
    """A stream's words of one prompt, and how many positions it takes: none where nothing was noted of it."""
    words: list[Word] = []
    size = 0
    read: set[str] = set()
    for attribute, prompt in prompts.items():
        seen = _first(noted, _tokenizer(getattr(pipe, attribute, None)), prompt, row)
        if seen is None or prompt in read:
            continue
        encoded, tokens = seen
        tokens = stream.take(pipe, tokens, len(tokens) if length is None else length)
        found = words_of(tokens, encoded, prompt, stream.label)
        words = second_words(words, found) if read else found
        size = len(tokens)
        read.add(prompt)
    return words, size


def _tokenizer(held: Any) -> Any:
    """What a pipeline calls its tokenizer may be a processor that holds it."""
    from transformers import PreTrainedTokenizerBase

    return held if held is None or isinstance(held, PreTrainedTokenizerBase) else getattr(held, "tokenizer", held)


def _first(noted: Sequence[Tokenized], tokenizer: Any, prompt: str, row: int) -> tuple[str, list[Token]] | None:
    """The first call is the one that is encoded: pipelines tokenize again, without limit, to warn of truncation."""
    wanted = prompt.strip().lower()
    calls = [call for call in noted if call.tokenizer is tokenizer and row < len(call.texts)]
    # textual inversion writes a learned word as several tokens: then no call holds the prompt as typed
    for call in [call for call in calls if wanted in call.texts[row].lower()] or calls:
        return call.texts[row], call.tokens[row]
    return None


def _padded(words: list[Word], rest: range) -> list[Word]:
    for index, word in enumerate(words):
        if word.kind == "padding":
            return [*words[:index], Word(word.text, (*word.tokens, *rest), "padding"), *words[index + 1 :]]
    return [*words, Word("padding", tuple(rest), "padding")]
