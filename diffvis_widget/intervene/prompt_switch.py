"""Another prompt in the middle of a run: encoded as the pipeline encodes its own, put where its own was.

A pipeline hands what its `encode_prompt` returned to the denoiser in arguments of its own naming, the two halves of the
batch joined, masks made longer. They are found by value: whatever holds the first prompt's rows gets the other's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer.families import Family
from diffvis_widget.tracer.locks import own_work
from diffvis_widget.tracer.prompt_encoding import Encoded, Side, encode

Path = tuple[Any, ...]
Rows = Sequence[tuple[int, int]]
"""(row of the denoiser's batch, image) of each row that carries the prompt."""


@dataclass
class Later:
    """A prompt that comes into force at a step. results: what `encode_prompt` gave for it, call by call.

    points: of each image, its own step; None where all have the same.
    """

    step: int
    side: Side
    results: Sequence[Any]
    points: Sequence[int] | None = None


def encoded_anew(original: Callable[..., Any], call: Encoded, args: Any, kwargs: Any, prompt: str) -> Encoded:
    """The same call of `encode_prompt` with another prompt for every image; `call` is what the first one was."""
    bound = inspect.signature(original).bind(*args, **kwargs)
    before = call.asked.get("prompt")
    for name in list(bound.arguments):
        own = not name.startswith("negative") and ("embeds" in name or name.startswith("prompt"))
        if own and name != "prompt":
            bound.arguments[name] = None
    count = len(before) if isinstance(before, list | tuple) else None
    if before is None and (given := call.asked.get("prompt_embeds")) is not None:
        count = len(given)
    bound.arguments["prompt"] = prompt if count is None else [prompt] * count
    with own_work():
        return encode(original, bound.args, bound.kwargs)


def is_same(call: Encoded, prompt: str) -> bool:
    """Whether a call of `encode_prompt` was asked for this very prompt already."""
    for name, asked in call.asked.items():
        if name != "prompt" and not (name.startswith("prompt_") and name.removeprefix("prompt_").isdigit()):
            continue
        texts = asked if isinstance(asked, list | tuple) else [asked]
        if name == "prompt" and any(text != prompt for text in texts):  # pyright: ignore[reportUnknownVariableType]
            return False
        if any(text not in (None, prompt) for text in texts):  # pyright: ignore[reportUnknownVariableType]
            return False
    return True


class Substitution:
    """Puts a later prompt's encodings where the denoiser was given the first one's."""

    def __init__(self, family: Family, first: Sequence[Any]) -> None:
        self._family = family
        self._first = [leaf for result in first for leaf in _leaves(result)]
        # by size of batch: where, which of the encodings, how it lies there, and the row of the batch if it is of one
        self._plans: dict[int, list[tuple[Path, int, str, int | None]]] = {}

    def learn(self, arguments: Mapping[str, Any], batch: int, rows: Rows) -> None:
        """Find the places, once for each size of batch. Raises ValueError where the text itself is not found."""
        if batch in self._plans:
            return
        plan = list(self._places(arguments, (), batch, rows))
        if not any(path[0] == self._family.text_argument for path, *_ in plan):
            raise ValueError(
                "switch: the denoiser is given something else than what encode_prompt returned (a callback or an "
                "adapter changed the embeddings), so another prompt cannot be put in its place"
            )
        self._plans[batch] = plan

    def put(self, arguments: dict[str, Any], later: Later, batch: int, rows: Rows) -> dict[str, Any]:
        """The arguments with the later prompt's encodings; nothing that was given is written into."""
        found = [leaf for result in later.results for leaf in _leaves(result)]
        changed = dict(arguments)
        chosen = {row for row, _ in rows}
        for path, source, mode, row in self._plans[batch]:
            if row is not None and row not in chosen:
                continue
            if (leaf := found[source]) is not None:
                changed = _with(changed, path, lambda old, new=leaf, how=mode: _put(old, new, how, rows))
        return changed

    def check(self, later: Later, batch: int, rows: Rows) -> None:
        """Raise ValueError where the later prompt's encodings have another length than a shared batch can hold."""
        found = [leaf for result in later.results for leaf in _leaves(result)]
        for path, source, mode, _ in self._plans[batch]:
            old, new = self._first[source], found[source]
            shared = mode == "rows" and len(rows) < batch and path[0] == self._family.text_argument
            if shared and old is not None and new is not None and old.shape[1:] != new.shape[1:]:
                raise ValueError(
                    f"switch: {later.side.typed[0]!r} takes {new.shape[1]} text positions and the run's own prompt "
                    f"{old.shape[1]}, but both halves of a guided batch have one length: use a prompt with as many "
                    "tokens, or run without a negative half (guidance_scale=1)"
                )

    def _places(self, value: Any, path: Path, batch: int, rows: Rows, row: int | None = None) -> Any:
        if isinstance(value, Tensor):
            for index, leaf in enumerate(self._first):
                if leaf is not None and (mode := _mode(value, leaf, batch, rows)) is not None:
                    yield path, index, mode, row
                    return
        elif isinstance(value, Mapping):
            for name, one in value.items():  # pyright: ignore[reportUnknownVariableType]
                yield from self._places(one, (*path, name), batch, rows, row)
        elif isinstance(value, list | tuple):
            # a list with an entry for each row of the batch: only the prompt's own rows are looked at
            own = {row for row, _ in rows} if len(value) == batch else None  # pyright: ignore[reportUnknownArgumentType]
            for index, one in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                if own is None or index in own:
                    yield from self._places(one, (*path, index), batch, rows, row if own is None else index)


def _leaves(result: Any) -> list[Tensor | None]:
    """The tensors in what `encode_prompt` returned; None keeps the place of anything else (a mask left out, say)."""
    if isinstance(result, list | tuple):
        return [leaf for one in result for leaf in _leaves(one)]  # pyright: ignore[reportUnknownVariableType]
    return [result if isinstance(result, Tensor) else None]


def _mode(value: Tensor, leaf: Tensor, batch: int, rows: Rows) -> str | None:
    """How an argument holds what `encode_prompt` returned: as it is, in rows, along the second axis, or at the
    beginning of rows."""
    chosen = [row for row, _ in rows]
    images = [image for _, image in rows]
    if value.ndim == leaf.ndim and value.ndim:
        if len(value) == batch and len(leaf) > max(images):
            own = value[chosen]
            given = leaf[images]
            if _same(own, given):
                return "rows"
            longer = own.ndim > 1 and own.shape[1] > given.shape[1] > 1
            if longer and _same(own[:, : given.shape[1]], given):
                return "beginnings"
        if value.ndim > 2 and value.shape[1] == batch and leaf.shape[1] > max(images):
            return "columns" if _same(value[:, chosen], leaf[:, images]) else None
    return "whole" if _same(value, leaf) else None


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one, other.to(one.device, one.dtype)))


def _put(value: Tensor, leaf: Tensor, mode: str, rows: Rows) -> Tensor:
    leaf = leaf.to(value.device, value.dtype)
    chosen = [row for row, _ in rows]
    images = [image for _, image in rows]
    if mode == "whole":
        return leaf
    if mode == "rows" and len(chosen) == len(value):
        # of any length: nothing else is in the batch
        return leaf if images == list(range(len(leaf))) else leaf[images]
    changed = value.clone()
    if mode == "rows":
        changed[chosen] = leaf[images]
    elif mode == "columns":
        changed[:, chosen] = leaf[:, images]
    else:
        changed[chosen, : leaf.shape[1]] = leaf[images]
    return changed


def _with(value: Any, path: Path, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested containers with one tensor changed."""
    if not path:
        return change(value)
    head, rest = path[0], path[1:]
    if isinstance(value, Mapping):
        copied: Any = dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    else:
        copied = list(value)
    copied[head] = _with(copied[head], rest, change)
    return tuple(copied) if isinstance(value, tuple) else copied
