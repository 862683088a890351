"""The prompts of a pipeline call, read from its calls of `encode_prompt`: texts, embeddings and words."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

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

from .argument_names import copied_arguments
from .fault_guard import FaultGuard
from .prompt_batch import CallPrompts, Embeddings, PromptBatch
from .words import number_positions

ENCODING = ("encode_prompt", "encode_prompt_multiple_images")
"""Methods of pipelines that encode a prompt; the second, of JoyImage, with images among it."""


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

    @property
    def has_text(self) -> bool:
        """Whether a prompt was passed, and not its embeddings."""
        return self.arguments.get("prompt") is not None


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
    arguments = copied_arguments(encode_prompt, args, kwargs)
    tokenizer_calls: list[TokenizerCall] = []
    with recording_tokenizers(tokenizer_calls, guard):
        result = encode_prompt(*args, **kwargs)
    return EncodeCall(arguments, result, tokenizer_calls)


def adapt(family: Family, call: EncodeCall, arguments: Mapping[str, Any]) -> Any:
    """Put prompts and embeddings of a call where the family has them.

    Args:
        family: The denoiser's family.
        call: The call, which is changed.
        arguments: Arguments of the pipeline call by name.

    Returns:
        What `encode_prompt` returned.
    """
    returned = call.result
    take_rows(family, call)
    call.arguments = family.prompt_arguments(call.arguments, arguments)
    return returned


def take_rows(family: Family, call: EncodeCall) -> None:
    """Take embeddings and tokens of a call by prompt, as the family has them.

    Args:
        family: The denoiser's family.
        call: The call, which is changed.
    """
    if (processor := family.prompt_processor) is not None:
        call.arguments, call.result, call.tokenizer_calls = processor.read(
            call.arguments, call.result, call.tokenizer_calls
        )
    call.result = family.encoded(call.result)
    call.tokenizer_calls = family.tokenized(call.arguments, call.tokenizer_calls)


def connect(family: Family, calls: Sequence[EncodeCall], output: Any) -> None:
    """Put what a connector returned in the place of the embeddings that it was given.

    Args:
        family: The denoiser's family.
        calls: The calls of `encode_prompt` so far; the result of the latest one is changed.
        output: Of the connector, beginning with embeddings: of the prompts, or of the negative prompts and the prompts.
    """
    first, second = family.embedding_indices
    if not calls:
        return
    result, embeddings = list(calls[-1].result), output[0]
    rows = len(result[first])
    result[first] = embeddings[-rows:]
    if second is not None and result[second] is not None and len(embeddings) > rows:
        result[second] = embeddings[:-rows]
    calls[-1].result = result


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
        embeddings: Any = calls[index].result[first]
        if isinstance(embeddings, list):  # rows of different lengths, padded in the batch
            if len(text) == 2 * len(embeddings):
                return calls[-2:]
            if _pads(cast("list[Tensor]", embeddings), text):
                return calls[index : index + 2]
            continue
        same_memory = embeddings.data_ptr() == text.data_ptr()
        if same_memory or (embeddings.shape == text.shape and torch.equal(embeddings, text)):
            return calls[index : index + 2]
    return calls[-1:]


def _pads(rows: Sequence[Tensor], text: Any) -> bool:
    """Whether the rows of a batch begin with these embeddings."""
    return len(rows) == len(text) and all(
        len(row) <= len(batch) and torch.equal(row.to(batch), batch[: len(row)])
        for row, batch in zip(rows, text, strict=True)
    )


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


def read_prompts(
    pipe: Any,
    family: Family,
    calls: Sequence[EncodeCall],
    images: int | None,
    earlier: Sequence[EncodeCall] = (),
    typed: Any = None,
) -> CallPrompts:
    """Read prompts and negative prompts from the `encode_prompt` calls of one pipeline call.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.
        calls: The `encode_prompt` calls, that of the negative prompt included.
        images: Number of images that the call generates; None where it is not known, then one per row of embeddings.
        earlier: Calls of `encode_prompt` with a text: embeddings that came without one may be theirs.
        typed: The prompts that the pipeline call was given; None where it was given none.

    Returns:
        One entry per image.
    """
    prompts = _read_prompts(pipe, family, calls, images)
    encoded = prompts.prompt.typed
    prompts.typed = [
        text if text is not None and other is not None and text != other else None
        for text, other in zip(_texts(typed, len(encoded)), encoded, strict=True)
    ]
    if any(text is None for text in prompts.prompt.typed):
        batches = _earlier_batches(pipe, family, earlier)
        prompts.prompt.take_words(batches)
        if prompts.negative is not None:
            prompts.negative.take_words(batches)
        if any(text is None for text in prompts.prompt.typed):
            warnings.warn(
                f"embeddings of the prompt reached {type(pipe).__name__} without its text: words are positions, named "
                "by numbers; call pipe.encode_prompt inside the block of the Tracer, and pass on the embeddings that "
                "it returns, to see words",
                stacklevel=2,
            )
    return prompts


def _earlier_batches(pipe: Any, family: Family, calls: Sequence[EncodeCall]) -> list[PromptBatch]:
    """The prompts and negative prompts of earlier calls, the latest first."""
    batches: list[PromptBatch] = []
    for stop in range(len(calls), family.encode_calls - 1, -family.encode_calls):
        prompts = _read_prompts(pipe, family, calls[stop - family.encode_calls : stop], None)
        batches += [prompts.prompt] if prompts.negative is None else [prompts.prompt, prompts.negative]
    return batches


def _read_prompts(pipe: Any, family: Family, calls: Sequence[EncodeCall], images: int | None) -> CallPrompts:
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
        count = _count(arguments.get(name), rows)
        tokenized = [
            item
            for call in calls
            for item in call.tokenizer_calls
            if item.texts not in exclude or len(item.texts) > count  # prompts and negative prompts in one call
        ]
        # several images of one prompt stand next to one another: tokenizers see each prompt once
        repeats = max(1, rows // max(1, count))
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
