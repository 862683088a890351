"""The texts of a pipeline call as its tokenizers processed them.

Every call of a tokenizer inside `encode_prompt` is recorded with its texts and tokens. So a template, a cleaned prompt,
truncation and padding are observed, not assumed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from diffvis_widget.tracer.fault_guard import FaultGuard
from diffvis_widget.tracer.hooks import watch
from diffvis_widget.tracer.prompt_alignment import prompt_occurs
from diffvis_widget.tracer.slow_tokens import read_slow_tokens
from diffvis_widget.tracer.words import Token, append_second_prompt, find_words, read_tokens, shift_words
from diffvis_widget.traces import Word

TokenSelection = Callable[[Any, Sequence[Token], int], list[Token]]
"""(pipeline, tokens of a text, number of text tokens) -> the tokens that the denoiser receives."""


def all_tokens(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Select every token, padding included.

    Args:
        pipe: The pipeline.
        tokens: Tokens of a text.
        length: Number of text tokens that the denoiser receives.

    Returns:
        The tokens that the denoiser receives.
    """
    return list(tokens)


def attended_tokens(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """Select every token but padding.

    Args:
        pipe: The pipeline.
        tokens: Tokens of a text.
        length: Number of text tokens that the denoiser receives.

    Returns:
        The tokens that the denoiser receives.
    """
    return [token for token in tokens if token.attended]


def special_tokens(count: int) -> list[Token]:
    """Make tokens of a template that the pipeline tokenizes apart from the prompt.

    Args:
        count: How many.

    Returns:
        Special tokens, which the denoiser receives and which cover no text of the prompt.
    """
    return [Token("", 0, 0, special=True, attended=True)] * count


def padding_tokens(count: int) -> list[Token]:
    """Make padding tokens that the pipeline adds after the tokenizer.

    Args:
        count: How many.

    Returns:
        Tokens of no text, which the attention mask of the text encoder leaves out.
    """
    return [Token("", 0, 0, special=True, attended=False)] * count


def padded_in_front(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The pipeline adds padding of its own in front of the tokens.

    Args:
        pipe: The pipeline.
        tokens: Tokens of the prompt.
        length: Number of text tokens that the denoiser receives.

    Returns:
        That many tokens, or all where there are more.
    """
    return [*padding_tokens(length - len(tokens)), *tokens]


def padded_behind(pipe: Any, tokens: Sequence[Token], length: int) -> list[Token]:
    """The pipeline cuts the tokens, or adds padding of its own behind them.

    Args:
        pipe: The pipeline.
        tokens: Tokens of the prompt.
        length: Number of text tokens that the denoiser receives.

    Returns:
        That many tokens.
    """
    return [*tokens[:length], *padding_tokens(length - len(tokens))]


@dataclass(frozen=True)
class TokenStream:
    """Text that the denoiser receives through one text encoder, or through several on the same positions.

    Attributes:
        tokenizers: Attributes of the pipeline that hold the tokenizers.
        label: Name of the encoder in `Word.encoder`; empty where there is only one.
        select: Which of the tokens the denoiser receives.
        repeats: How often the stream occurs in the text tokens.
        in_pieces: Whether the pipeline may tokenize a prompt piece by piece.
    """

    tokenizers: tuple[str, ...]
    label: str = ""
    select: TokenSelection = all_tokens
    repeats: int = 1
    in_pieces: bool = False


@dataclass(frozen=True)
class TokenizerCall:
    """One call of a tokenizer.

    Attributes:
        tokenizer: The tokenizer.
        texts: Its texts.
        tokens: The tokens of each text.
    """

    tokenizer: Any
    texts: list[str]
    tokens: list[list[Token]]


def as_tokenized(arguments: Mapping[str, Any], calls: Sequence[TokenizerCall]) -> list[TokenizerCall]:
    """Take the calls of tokenizers as they are.

    Args:
        arguments: Arguments of `encode_prompt` by name.
        calls: The calls inside it.

    Returns:
        The same calls.
    """
    return list(calls)


@contextmanager
def recording_tokenizers(calls: list[TokenizerCall], guard: FaultGuard | None = None) -> Iterator[None]:
    """Record this thread's calls of any tokenizer inside a with block.

    Args:
        calls: Each call is appended to this list.
        guard: Takes the errors of the hook; None: they end the call.

    Yields:
        Nothing.
    """
    from transformers import PreTrainedTokenizerBase

    thread = threading.get_ident()

    def record(original: Callable[..., Any], tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(tokenizer, *args, **kwargs)
        text = args[0] if args else kwargs.get("text")
        if threading.get_ident() == thread and isinstance(text, str | list):
            texts = [text] if isinstance(text, str) else list(text)
            if all(isinstance(text, str) for text in texts) and (tokens := _tokens(tokenizer, texts, result)):
                calls.append(TokenizerCall(tokenizer, texts, tokens))
        return result

    stop = watch(PreTrainedTokenizerBase, "__call__", record, guard=guard)
    try:
        yield
    finally:
        stop()


def _tokens(tokenizer: Any, texts: list[str], result: Any) -> list[list[Token]] | None:
    """The tokens of each text that a call returned; None where it does not tell them."""
    encodings = getattr(result, "encodings", None)
    if encodings:
        return [read_tokens(tokenizer, item) for item in encodings] if len(texts) == len(encodings) else None
    ids, attended = (result.get(name) for name in ("input_ids", "attention_mask"))
    if tokenizer.is_fast or ids is None or attended is None or len(ids) != len(texts) or not len(ids[0]):
        return None
    rows = [
        read_slow_tokens(tokenizer, text, [int(part) for part in row], [int(part) for part in mask])
        for text, row, mask in zip(texts, ids, attended, strict=True)
    ]
    return [row for row in rows if row is not None] if None not in rows else None


def words_of_streams(
    pipe: Any,
    streams: Sequence[TokenStream],
    calls: Sequence[TokenizerCall],
    prompts: Mapping[str, list[str]],
    lengths: list[int],
) -> list[list[Word]] | None:
    """Find the words of each prompt along its text tokens.

    Args:
        pipe: The pipeline.
        streams: The family's token streams.
        calls: Recorded calls of its tokenizers.
        prompts: By tokenizer attribute, the prompts that it was to encode.
        lengths: Number of text tokens of each prompt.

    Returns:
        The words of each prompt, or None where the recorded tokens do not fit the number of text tokens.
    """
    rows: list[list[Word]] = []
    for row, length in enumerate(lengths):
        words: list[Word] = []
        offset = 0
        for stream in streams:
            texts = {attribute: prompts[attribute][row] for attribute in stream.tokenizers}
            stream_words, size = _words_of_stream(
                pipe, stream, calls, texts, (row, len(lengths)), length if len(streams) == 1 else None
            )
            words += shift_words(stream_words, *(offset + size * repeat for repeat in range(stream.repeats)))
            offset += size * stream.repeats
        if not offset or offset > length:
            return None
        # rows padded to one length, or a text encoder that is missing
        rows.append(words if offset == length else _padded(words, range(offset, length)))
    return rows


def _words_of_stream(
    pipe: Any,
    stream: TokenStream,
    calls: Sequence[TokenizerCall],
    prompts: Mapping[str, str],
    row: tuple[int, int],
    length: int | None,
) -> tuple[list[Word], int]:
    """A stream's words of a prompt, and its number of tokens; none where no call was recorded.

    row: index of the prompt, and number of prompts.
    """
    words: list[Word] = []
    size = 0
    processed: set[str] = set()
    for attribute, prompt in prompts.items():
        tokenizers = _tokenizers(pipe, attribute)
        call = _joined(calls, tokenizers, prompt) if stream.in_pieces else _first_call(calls, tokenizers, prompt, *row)
        if call is None or prompt in processed:
            continue
        encoded, tokens = call
        tokens = stream.select(pipe, tokens, len(tokens) if length is None else length)
        prompt_words = find_words(tokens, encoded, prompt, stream.label)
        words = append_second_prompt(words, prompt_words) if processed else prompt_words
        size = len(tokens)
        processed.add(prompt)
    return words, size


def _tokenizer(component: Any) -> Any:
    """The tokenizer inside a processor, or the component itself."""
    from transformers import PreTrainedTokenizerBase

    if component is None or isinstance(component, PreTrainedTokenizerBase):
        return component
    return getattr(component, "tokenizer", component)


def _tokenizers(pipe: Any, attribute: str) -> list[Any]:
    """The tokenizer of an attribute; an editing model tokenizes by the one inside its processor."""
    attributes = (attribute, "processor") if attribute == "tokenizer" else (attribute,)
    return [_tokenizer(part) for name in attributes if (part := getattr(pipe, name, None)) is not None]


def _first_call(
    calls: Sequence[TokenizerCall], tokenizers: Sequence[Any], prompt: str, row: int, rows: int
) -> tuple[str, list[Token]] | None:
    """The first call is the one that is encoded: pipelines tokenize again, without limit, to warn of truncation."""
    calls = [call for call in calls if any(call.tokenizer is tokenizer for tokenizer in tokenizers)]
    # in a call of prompts and negative prompts, rows belong to either
    of_rows = [call for call in calls if row < len(call.texts) >= rows and len(call.texts) != 2 * rows]
    texts = [call.texts[row] for call in of_rows]
    tokens = [call.tokens[row] for call in of_rows]
    for text, text_tokens in zip(texts, tokens, strict=True):
        if prompt_occurs(text, prompt):
            return text, text_tokens
    # some pipelines tokenize a list one prompt at a time, each inside the same template
    all_texts = [
        (text, text_tokens) for call in calls for text, text_tokens in zip(call.texts, call.tokens, strict=True)
    ]
    containing = [item for item in all_texts if prompt_occurs(item[0], prompt)]
    if containing:
        return min(containing, key=lambda item: len(item[0]))
    if texts:  # cleaning took words out
        return texts[0], tokens[0]
    return all_texts[row] if len(all_texts) == rows else None


def _joined(calls: Sequence[TokenizerCall], tokenizers: Sequence[Any], prompt: str) -> tuple[str, list[Token]] | None:
    """The tokens of successive pieces that make up the prompt; None where none do."""
    pieces = [
        (text, tokens)
        for call in calls
        if any(call.tokenizer is tokenizer for tokenizer in tokenizers)
        for text, tokens in zip(call.texts, call.tokens, strict=True)
    ]
    for first in range(len(pieces)):
        whole, joined = "", list[Token]()
        for text, tokens in pieces[first:]:
            if whole and prompt[len(whole) :][:1] == " " and text[:1] != " ":  # pieces may be words of their own
                whole += " "
            joined += [replace(token, start=token.start + len(whole), end=token.end + len(whole)) for token in tokens]
            whole += text
            if whole == prompt:
                return whole, joined
            if not prompt.startswith(whole):
                break
    return None


def _padded(words: list[Word], rest: range) -> list[Word]:
    for index, word in enumerate(words):
        if word.kind == "padding":
            return [*words[:index], Word(word.text, (*word.tokens, *rest), "padding"), *words[index + 1 :]]
    return [*words, Word("padding", tuple(rest), "padding")]
