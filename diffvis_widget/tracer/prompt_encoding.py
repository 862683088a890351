"""The prompts of a pipeline call, read from its calls of `encode_prompt`: texts, embeddings and words."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.families.token_streams import (
    TokenizerCall,
    TokenStream,
    recording_tokenizers,
    words_of_streams,
)
from diffvis_widget.traces import Word

from .attention_probabilities import Targets, WordColumns
from .fault_guard import FaultGuard
from .words import number_positions

Embeddings = Sequence[Tensor] | Tensor


@dataclass
class EncodeCall:
    """One call of `encode_prompt`.

    Attributes:
        arguments: Its arguments by name, defaults included.
        result: What it returned.
        tokenizer_calls: The calls of tokenizers inside it.
    """

    arguments: Mapping[str, Any]
    result: Any
    tokenizer_calls: list[TokenizerCall]


def encode(encode_prompt: Callable[..., Any], args: Any, kwargs: Any, guard: FaultGuard | None = None) -> EncodeCall:
    """Call `encode_prompt` and record the call.

    Args:
        encode_prompt: A pipeline's own method.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        guard: Takes the errors of the hooks; None: they end the call.

    Returns:
        The call.
    """
    bound = inspect.signature(encode_prompt).bind(*args, **kwargs)
    bound.apply_defaults()
    # a pipeline may write into the lists it is given
    arguments = {name: list(value) if isinstance(value, list) else value for name, value in bound.arguments.items()}
    tokenizer_calls: list[TokenizerCall] = []
    with recording_tokenizers(tokenizer_calls, guard):
        result = encode_prompt(*args, **kwargs)
    return EncodeCall(arguments, result, tokenizer_calls)


@dataclass
class PromptBatch:
    """The prompts, or the negative prompts, of a call: one entry per image.

    Attributes:
        typed: Texts as typed; None for embeddings that came without text.
        embeddings: One row per image, (text tokens, width).
        words: The words of each text.
        lengths: Number of text tokens of each row.
    """

    typed: list[str | None]
    embeddings: Embeddings
    words: list[list[Word]]
    lengths: list[int]
    _targets: Targets | None = field(default=None, repr=False)
    _recognized: Any = field(default=None, repr=False)

    def targets(self, device: torch.device, padding: bool) -> Targets:
        """Build what the attention reader sums the tokens of words by.

        Args:
            device: The denoiser's device.
            padding: Whether padding tokens count as a word.

        Returns:
            The same object for every call.
        """
        if self._targets is None:
            most = max(len(words) for words in self.words)
            whole = torch.zeros(len(self.words), max(self.lengths), most, dtype=torch.float32)
            for image, words in enumerate(self.words):
                for index, word in enumerate(words):
                    if padding or word.kind != "padding":
                        whole[image, list(word.tokens), index] = 1.0
            columns: list[WordColumns] = []
            for matrix, length in zip(whole, self.lengths, strict=True):
                # the denoiser may receive fewer text tokens than were encoded
                chosen = matrix[:length].any(dim=1).nonzero()[:, 0]
                columns.append(WordColumns(chosen.to(device), matrix[chosen].to(device)))
            self._targets = Targets(whole.to(device), columns, self.lengths)
        return self._targets

    def holds(self, text: Any) -> bool:
        """Whether the denoiser received these embeddings, by identity: without waiting for the device.

        Args:
            text: The text embeddings that the denoiser received.

        Returns:
            True for the same memory, and for embeddings that `recognizes` found equal.
        """
        if self._recognized is text or self.embeddings is text:
            return True
        if not (isinstance(text, Tensor) and isinstance(self.embeddings, Tensor)):
            return False
        return text.shape == self.embeddings.shape and text.data_ptr() == self.embeddings.data_ptr()

    def recognizes(self, text: Any) -> bool:
        """Whether the denoiser received these embeddings, by value: waits for the device.

        Args:
            text: The text embeddings that the denoiser received.

        Returns:
            True for equal values; `holds` then knows them.
        """
        same = len(text) == len(self.embeddings) and bool(self.equals(text))
        self._recognized = text if same else self._recognized
        return same

    def fits(self, text: Any) -> bool:
        """Whether the denoiser received as many text tokens as were encoded.

        Args:
            text: The text embeddings that the denoiser received.

        Returns:
            True where the shapes agree, or cannot be compared.
        """
        if isinstance(text, Tensor) and isinstance(self.embeddings, Tensor):
            return text.shape[1:] == self.embeddings.shape[1:]
        return True

    def equals(self, text: Any) -> Tensor:
        """Compare embeddings on the device.

        Args:
            text: As many rows of text embeddings as there are images.

        Returns:
            bool (), True where all rows are equal.
        """
        same = [
            torch.all(embedding.to(row.device, row.dtype) == row)
            if embedding.shape == row.shape
            else torch.tensor(False)
            for embedding, row in zip(self.embeddings, text, strict=True)
        ]
        return torch.stack(same).all()

    @property
    def has_text(self) -> bool:
        """Whether any text was typed whose words could be shown."""
        return any(self.typed)


@dataclass
class CallPrompts:
    """The prompts of a pipeline call.

    Attributes:
        prompt: The prompts.
        negative: The negative prompts; None without guidance.
        second: `prompt_2` of each image.
    """

    prompt: PromptBatch
    negative: PromptBatch | None
    second: list[str | None]

    @property
    def images(self) -> int:
        """Number of images that the call generates."""
        return len(self.prompt.typed)


def encode_calls_of(family: Family, calls: Sequence[EncodeCall], text: Any) -> Sequence[EncodeCall]:
    """Select the `encode_prompt` calls that belong to a pipeline call.

    Others may have come before: a user encodes a prompt and passes its embeddings on.

    Args:
        family: The denoiser's family.
        calls: All `encode_prompt` calls so far.
        text: The text embeddings that the pipeline call gave its denoiser.

    Returns:
        The latest calls of `calls`.
    """
    first, second = family.embedding_indices
    if second is not None:
        return calls[-family.encode_calls :]
    for index in range(len(calls) - 1, -1, -1):
        embeddings: Tensor = calls[index].result[first]
        same_memory = embeddings.data_ptr() == text.data_ptr()
        if same_memory or (embeddings.shape == text.shape and torch.equal(embeddings, text)):
            return calls[index : index + 2]
    return calls[-1:]


def prompts_without_words(calls: Sequence[EncodeCall], call_arguments: Mapping[str, Any], images: int) -> CallPrompts:
    """Read the texts of a pipeline whose words cannot be told apart.

    Args:
        calls: The `encode_prompt` calls; may be empty.
        call_arguments: Arguments of the pipeline call; may be empty.
        images: Number of images that the call generates.

    Returns:
        The texts that were passed, without words and embeddings.
    """
    arguments = call_arguments or (calls[-1].arguments if calls else {})
    empty = [torch.empty(0)] * images

    def batch(name: str) -> PromptBatch:
        return PromptBatch(_texts(arguments.get(name), images), empty, [[] for _ in empty], [0] * images)

    return CallPrompts(batch("prompt"), batch("negative_prompt"), _texts(arguments.get("prompt_2"), images))


def read_prompts(pipe: Any, family: Family, calls: Sequence[EncodeCall], images: int | None) -> CallPrompts:
    """Read prompts and negative prompts from the `encode_prompt` calls of one pipeline call.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        calls: The `encode_prompt` calls, that of the negative prompt included.
        images: Number of images that the call generates; None where it is not known, then one per row of embeddings.

    Returns:
        One entry per image.
    """
    first, second = family.embedding_indices
    prompt_calls, rest = calls[: family.encode_calls], calls[family.encode_calls :]
    results = [call.result for call in prompt_calls]
    images = images or len(results[0][first])
    arguments = prompt_calls[0].arguments
    prompt = _batch(pipe, family, prompt_calls, results, arguments, "prompt", images, ())
    tokenized = [texts for call in prompt_calls for texts in _first_texts(call.tokenizer_calls)]
    negative: PromptBatch | None = None
    if second is None and rest:
        negative = _batch(pipe, family, rest, [call.result for call in rest], rest[0].arguments, "prompt", images, ())
    elif second is not None and results[0][second] is not None and len(results[0][second]):
        swapped = [_swapped(result, first, second) for result in results]
        same = _texts(arguments.get("negative_prompt"), images) == prompt.typed
        exclude = () if same else tokenized
        negative = _batch(pipe, family, prompt_calls, swapped, arguments, "negative_prompt", images, exclude)
    return CallPrompts(prompt=prompt, negative=negative, second=_texts(arguments.get("prompt_2"), images))


def _batch(
    pipe: Any,
    family: Family,
    calls: Sequence[EncodeCall],
    results: Sequence[Any],
    arguments: Mapping[str, Any],
    name: str,
    images: int,
    exclude: Sequence[list[str]],
) -> PromptBatch:
    """exclude: texts whose tokenizer calls belong to another prompt."""
    embeddings: Embeddings = results[0][family.embedding_indices[0]]
    rows = len(embeddings)
    lengths = family.text_lengths(results)
    typed = _texts(arguments.get(name), rows)
    words: list[list[Word]] | None = None
    if all(text is not None for text in typed):
        tokenized = [item for call in calls for item in call.tokenizer_calls if item.texts not in exclude]
        # several images of one prompt stand next to one another: tokenizers see each prompt once
        repeats = max(1, rows // max(1, _count(arguments.get(name), rows)))
        prompts = _typed(family.token_streams, arguments, name, rows)
        once = {attribute: texts[::repeats] for attribute, texts in prompts.items()}
        rows_of_words = words_of_streams(pipe, family.token_streams, tokenized, once, lengths[::repeats])
        words = None if rows_of_words is None else [row for row in rows_of_words for _ in range(repeats)][:rows]
        if words is None and any(typed):
            warnings.warn(
                f"the words of the {name.replace('_', ' ')} cannot be told apart for {type(pipe).__name__}: its "
                "tokenizers report no offsets, or another number of text positions than its denoiser sees; words are "
                "positions",
                stacklevel=2,
            )
    words = [number_positions(length) for length in lengths] if words is None else words
    repeats = max(1, images // rows)
    return PromptBatch(
        typed=[text for text in typed for _ in range(repeats)],
        embeddings=_repeated(embeddings, repeats),
        words=[row for row in words for _ in range(repeats)],
        lengths=[length for length in lengths for _ in range(repeats)],
    )


def _swapped(result: Any, first: int, second: int) -> Any:
    """What `encode_prompt` would return for the negative prompt alone: every pair is swapped."""
    step = second - first
    swapped = list(result)
    # results alternate between prompt and negative prompt, or hold all of the prompt before all of the negative prompt
    for index in range(0, len(swapped) - step, 2 * step):
        for inner in range(step):
            if index + step + inner < len(swapped):
                swapped[index + inner] = result[index + step + inner]
    return swapped


def _first_texts(calls: Sequence[TokenizerCall]) -> list[list[str]]:
    firsts: dict[int, list[str]] = {}
    for call in calls:
        firsts.setdefault(id(call.tokenizer), call.texts)
    return list(firsts.values())


def _typed(streams: Sequence[TokenStream], arguments: Mapping[str, Any], name: str, rows: int) -> dict[str, list[str]]:
    """The texts of each tokenizer by its attribute: `tokenizer_2` reads `prompt_2`, where there is one."""
    texts: dict[str, list[str]] = {}
    for stream in streams:
        for attribute in stream.tokenizers:
            text = arguments.get(name + attribute.removeprefix("tokenizer"))
            texts[attribute] = [row or "" for row in _texts(arguments.get(name) if text is None else text, rows)]
    return texts


def _count(texts: Any, rows: int) -> int:
    return 1 if isinstance(texts, str) else rows if texts is None else len(texts)


def _texts(texts: Any, images: int) -> list[str | None]:
    """One text per image: a pipeline makes its several images of one prompt next to one another."""
    if texts is None:
        return [None] * images
    listed: Sequence[str | None] = [texts] if isinstance(texts, str) else list(texts)
    repeated = max(1, images // max(1, len(listed)))
    return [text for text in listed for _ in range(repeated)][:images] or [None] * images


def _repeated(embeddings: Embeddings, times: int) -> Embeddings:
    if times == 1:
        return embeddings.detach() if isinstance(embeddings, Tensor) else embeddings
    if isinstance(embeddings, Tensor):
        return embeddings.detach().repeat_interleave(times, dim=0)
    return [row for row in embeddings for _ in range(times)]
