"""What a pipeline call was asked for, read from its own `encode_prompt`: texts, embeddings, and the texts' words."""

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

from .attention_probabilities import Columns, Targets
from .words import positions

Embeddings = Sequence[Tensor] | Tensor


@dataclass
class Encoded:
    """One call of `encode_prompt`: its arguments by name, what it returned, and what its tokenizers saw."""

    asked: Mapping[str, Any]
    result: Any
    noted: list[TokenizerCall]


def encode(original: Callable[..., Any], args: Any, kwargs: Any) -> Encoded:
    """Make the call and note everything about it."""
    bound = inspect.signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    # a pipeline may write into the lists it is given
    asked = {name: list(value) if isinstance(value, list) else value for name, value in bound.arguments.items()}
    noted: list[TokenizerCall] = []
    with recording_tokenizers(noted):
        result = original(*args, **kwargs)
    return Encoded(asked, result, noted)


@dataclass
class Side:
    """The prompts or the negative prompts of a call, one entry per image.

    embeddings: one row per image, (text positions, width). typed: None for embeddings that came without text.
    """

    typed: list[str | None]
    embeddings: Embeddings
    words: list[list[Word]]
    lengths: list[int]
    _targets: Targets | None = field(default=None, repr=False)
    _known: Any = field(default=None, repr=False)

    def targets(self, device: torch.device, padding: bool) -> Targets:
        """What the attention reader looks for. padding: whether padding is looked for too."""
        if self._targets is None:
            most = max(len(words) for words in self.words)
            whole = torch.zeros(len(self.words), max(self.lengths), most, dtype=torch.float32)
            for image, words in enumerate(self.words):
                for index, word in enumerate(words):
                    if padding or word.kind != "padding":
                        whole[image, list(word.tokens), index] = 1.0
            columns: list[Columns] = []
            for matrix, length in zip(whole, self.lengths, strict=True):
                # a denoiser may be told of fewer positions than were encoded
                chosen = matrix[:length].any(dim=1).nonzero()[:, 0]
                columns.append(Columns(chosen.to(device), matrix[chosen].to(device)))
            self._targets = Targets(whole.to(device), columns, self.lengths)
        return self._targets

    def holds(self, text: Any) -> bool:
        """Whether the denoiser was given these very embeddings: the same memory, or what was found equal before."""
        if self._known is text or self.embeddings is text:
            return True
        if not (isinstance(text, Tensor) and isinstance(self.embeddings, Tensor)):
            return False
        return text.shape == self.embeddings.shape and text.data_ptr() == self.embeddings.data_ptr()

    def recognises(self, text: Any) -> bool:
        """The same by value, which waits for the device."""
        same = len(text) == len(self.embeddings) and bool(self.equals(text))
        self._known = text if same else self._known
        return same

    def fits(self, text: Any) -> bool:
        """Whether the denoiser's text has as many positions as were encoded."""
        if isinstance(text, Tensor) and isinstance(self.embeddings, Tensor):
            return text.shape[1:] == self.embeddings.shape[1:]
        return True

    def equals(self, text: Any) -> Tensor:
        """On the device: whether these rows of the denoiser's text are the embeddings."""
        same = [
            torch.all(own.to(row.device, row.dtype) == row) if own.shape == row.shape else torch.tensor(False)
            for own, row in zip(self.embeddings, text, strict=True)
        ]
        return torch.stack(same).all()

    @property
    def written(self) -> bool:
        """Whether there is a text of which words could be shown."""
        return any(self.typed)


@dataclass
class Request:
    """A pipeline call's texts. second: `prompt_2` of each image. negative: None without guidance."""

    prompt: Side
    negative: Side | None
    second: list[str | None]

    @property
    def images(self) -> int:
        return len(self.prompt.typed)


def own_calls(family: Family, calls: Sequence[Encoded], text: Any) -> Sequence[Encoded]:
    """Those of all `encode_prompt` calls so far that belong to the pipeline call which now gives the denoiser `text`.

    Others may have come before: a user encodes a prompt, and hands on the embeddings.
    """
    first, second = family.embedding_indices
    if second is not None:
        return calls[-family.encode_calls :]
    for index in range(len(calls) - 1, -1, -1):
        one: Tensor = calls[index].result[first]
        if one.data_ptr() == text.data_ptr() or (one.shape == text.shape and torch.equal(one, text)):
            return calls[index : index + 2]
    return calls[-1:]


def unread(calls: Sequence[Encoded], images: int) -> Request:
    """For a pipeline whose words cannot be followed: the texts, as far as they were seen."""
    asked = calls[-1].asked if calls else {}
    empty = [torch.empty(0)] * images

    def side(name: str) -> Side:
        return Side(_texts(asked.get(name), images), empty, [[] for _ in empty], [0] * images)

    return Request(side("prompt"), side("negative_prompt"), _texts(asked.get("prompt_2"), images))


def read_request(pipe: Any, family: Family, calls: Sequence[Encoded], images: int | None) -> Request:
    """Make sense of the `encode_prompt` calls of one pipeline call, the negative prompt's own included.

    images: how many are made, where it is known; else as many as there are embeddings.
    """
    first, second = family.embedding_indices
    own, rest = calls[: family.encode_calls], calls[family.encode_calls :]
    results = [call.result for call in own]
    made = images or len(results[0][first])
    asked = own[0].asked
    prompt = _side(pipe, family, own, results, asked, "prompt", made, ())
    taken = [texts for call in own for texts in _first_texts(call.noted)]
    negative: Side | None = None
    if second is None and rest:
        negative = _side(pipe, family, rest, [call.result for call in rest], rest[0].asked, "prompt", made, ())
    elif second is not None and results[0][second] is not None and len(results[0][second]):
        swapped = [_swapped(result, first, second) for result in results]
        same = _texts(asked.get("negative_prompt"), made) == prompt.typed
        negative = _side(pipe, family, own, swapped, asked, "negative_prompt", made, () if same else taken)
    return Request(
        prompt=prompt,
        negative=negative,
        second=_texts(asked.get("prompt_2"), made),
    )


def _side(
    pipe: Any,
    family: Family,
    calls: Sequence[Encoded],
    results: Sequence[Any],
    asked: Mapping[str, Any],
    name: str,
    images: int,
    taken: Sequence[list[str]],
) -> Side:
    embeddings: Embeddings = results[0][family.embedding_indices[0]]
    rows = len(embeddings)
    lengths = family.text_lengths(results)
    typed = _texts(asked.get(name), rows)
    words: list[list[Word]] | None = None
    if all(text is not None for text in typed):
        noted = [one for call in calls for one in call.noted if one.texts not in taken]
        # several images of one prompt stand next to one another: tokenizers see each prompt once
        repeats = max(1, rows // max(1, _count(asked.get(name), rows)))
        prompts = _typed(family.token_streams, asked, name, rows)
        once = {attribute: texts[::repeats] for attribute, texts in prompts.items()}
        found = words_of_streams(pipe, family.token_streams, noted, once, lengths[::repeats])
        words = None if found is None else [row for row in found for _ in range(repeats)][:rows]
        if words is None and any(typed):
            warnings.warn(
                f"the words of the {name.replace('_', ' ')} cannot be told apart for {type(pipe).__name__}: its "
                "tokenizers report no offsets, or another number of text positions than its denoiser sees; words are "
                "positions",
                stacklevel=2,
            )
    words = [positions(length) for length in lengths] if words is None else words
    repeats = max(1, images // rows)
    return Side(
        typed=[text for text in typed for _ in range(repeats)],
        embeddings=_repeated(embeddings, repeats),
        words=[row for row in words for _ in range(repeats)],
        lengths=[length for length in lengths for _ in range(repeats)],
    )


def _swapped(result: Any, first: int, second: int) -> Any:
    """What `encode_prompt` would return for the negative prompt alone: every pair turned around."""
    step = second - first
    turned = list(result)
    # results come as (prompt's, negative's) in turn, or as all of the prompt's and then all of the negative's
    for index in range(0, len(turned) - step, 2 * step):
        for inner in range(step):
            if index + step + inner < len(turned):
                turned[index + inner] = result[index + step + inner]
    return turned


def _first_texts(noted: Sequence[TokenizerCall]) -> list[list[str]]:
    firsts: dict[int, list[str]] = {}
    for one in noted:
        firsts.setdefault(id(one.tokenizer), one.texts)
    return list(firsts.values())


def _typed(streams: Sequence[TokenStream], asked: Mapping[str, Any], name: str, rows: int) -> dict[str, list[str]]:
    """By tokenizer attribute, what it was to read: `tokenizer_2` reads `prompt_2`, where there is one."""
    found: dict[str, list[str]] = {}
    for stream in streams:
        for attribute in stream.tokenizers:
            text = asked.get(name + attribute.removeprefix("tokenizer"))
            found[attribute] = [one or "" for one in _texts(asked.get(name) if text is None else text, rows)]
    return found


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
