"""Switches the prompt in the middle of a run: encodes another one as the pipeline does, and puts its embeddings in.

A pipeline passes what its `encode_prompt` returned to the denoiser in arguments of its own naming, with both branches
in one batch and masks extended. The arguments are recognized by value: whatever holds the first prompt's rows gets the
other's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.tracer import Family, own_work
from diffvis_widget.tracer.pipeline_calls import EncodeCall, PromptBatch, encode

from .attention import Rows

Path = tuple[Any, ...]


@dataclass
class LaterPrompt:
    """A prompt that comes into force at a step.

    Attributes:
        step: The first step with it.
        prompt: The prompt, one entry per image.
        results: What `encode_prompt` returned for it, call by call.
        points: Of each image, its own first step; None where all have the same.
    """

    step: int
    prompt: PromptBatch
    results: Sequence[Any]
    points: Sequence[int] | None = None


def encode_again(
    encode_prompt: Callable[..., Any], call: EncodeCall, args: Any, kwargs: Any, prompt: str
) -> EncodeCall:
    """Repeat a call of `encode_prompt` with another prompt for every image.

    Args:
        encode_prompt: The pipeline's own method.
        call: The call to repeat.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        prompt: The other prompt.

    Returns:
        The new call.
    """
    bound = inspect.signature(encode_prompt).bind(*args, **kwargs)
    texts = call.arguments.get("prompt")
    for name in list(bound.arguments):
        is_embedding = not name.startswith("negative") and ("embeds" in name or name.startswith("prompt"))
        if is_embedding and name != "prompt":
            bound.arguments[name] = None
        elif isinstance(bound.arguments[name], list):  # the pipeline may have written into it
            bound.arguments[name] = list(call.arguments[name])
    count = len(texts) if isinstance(texts, list | tuple) else None
    if texts is None and (embeddings := call.arguments.get("prompt_embeds")) is not None:
        count = len(embeddings)
    bound.arguments["prompt"] = prompt if count is None else [prompt] * count
    with own_work():
        return encode(encode_prompt, bound.args, bound.kwargs)


def is_same_prompt(call: EncodeCall, prompt: str) -> bool:
    """Whether a call of `encode_prompt` encoded this very prompt.

    Args:
        call: The call.
        prompt: The prompt.

    Returns:
        True if all its texts, those of further encoders included, are `prompt`.
    """
    for name, value in call.arguments.items():
        if name != "prompt" and not (name.startswith("prompt_") and name.removeprefix("prompt_").isdigit()):
            continue
        texts: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
        if name == "prompt" and any(text != prompt for text in texts):
            return False
        if any(text not in (None, prompt) for text in texts):
            return False
    return True


class Substitution:
    """Puts a later prompt's embeddings where the denoiser received the first prompt's.

    Args:
        family: The denoiser's family.
        first: What `encode_prompt` returned for the first prompt, call by call.
    """

    def __init__(self, family: Family, first: Sequence[Any]) -> None:
        self._family = family
        self._first = [leaf for result in first for leaf in _leaves(result)]
        # by batch size: path of the argument, index of the tensor, how it is held, and the row if it holds a single one
        self._plans: dict[int, list[tuple[Path, int, str, int | None]]] = {}

    def learn(self, arguments: Mapping[str, Any], batch: int, rows: Rows) -> None:
        """Find the arguments to replace, once for each batch size.

        Args:
            arguments: Of the denoiser, by name.
            batch: Rows of its batch.
            rows: Those that carry the prompt, each with its image.

        Raises:
            ValueError: The text argument does not hold what `encode_prompt` returned.
        """
        if batch in self._plans:
            return
        plan = list(self._places(arguments, (), batch, rows))
        if not any(path[0] == self._family.text_argument for path, *_ in plan):
            raise ValueError(
                "switch: the denoiser is given something else than what encode_prompt returned (a callback or an "
                "adapter changed the embeddings), so they cannot be replaced by another prompt's"
            )
        self._plans[batch] = plan

    def put(self, arguments: dict[str, Any], later: LaterPrompt, batch: int, rows: Rows) -> dict[str, Any]:
        """Replace the first prompt's embeddings.

        Args:
            arguments: Of the denoiser, by name; not written into.
            later: The prompt that is in force.
            batch: Rows of the batch.
            rows: Those that get the prompt, each with its image.

        Returns:
            The new arguments.
        """
        tensors = [leaf for result in later.results for leaf in _leaves(result)]
        changed = dict(arguments)
        chosen = {row for row, _ in rows}
        for path, source, mode, row in self._plans[batch]:
            if row is not None and row not in chosen:
                continue
            if (leaf := tensors[source]) is not None:
                changed = _with(changed, path, lambda old, new=leaf, how=mode: _put(old, new, how, rows))
        return changed

    def check(self, later: LaterPrompt, batch: int, rows: Rows) -> None:
        """Check that a later prompt fits into the batch.

        Args:
            later: The prompt.
            batch: Rows of the batch.
            rows: Those that carry the prompt, each with its image.

        Raises:
            ValueError: It has another number of text tokens than a batch shared with the negative prompt can hold.
        """
        tensors = [leaf for result in later.results for leaf in _leaves(result)]
        for path, source, mode, _ in self._plans[batch]:
            old, new = self._first[source], tensors[source]
            shared = mode == "rows" and len(rows) < batch and path[0] == self._family.text_argument
            if shared and old is not None and new is not None and old.shape[1:] != new.shape[1:]:
                raise ValueError(
                    f"switch: {later.prompt.typed[0]!r} takes {new.shape[1]} text positions and the run's own prompt "
                    f"{old.shape[1]}, but both branches of a guided batch have one length: use a prompt with as many "
                    "tokens, or run without guidance (guidance_scale=1)"
                )

    def _places(self, value: Any, path: Path, batch: int, rows: Rows, row: int | None = None) -> Any:
        if isinstance(value, Tensor):
            for index, leaf in enumerate(self._first):
                if leaf is not None and (mode := _mode(value, leaf, batch, rows)) is not None:
                    yield path, index, mode, row
                    return
        elif isinstance(value, Mapping):
            for name, item in value.items():  # pyright: ignore[reportUnknownVariableType]
                yield from self._places(item, (*path, name), batch, rows, row)
        elif isinstance(value, list | tuple):
            # a list with an entry for each row of the batch: only the rows of the prompt matter
            is_of_rows = row is None and len(value) == batch  # pyright: ignore[reportUnknownArgumentType]
            prompt_rows = {row for row, _ in rows} if is_of_rows else None
            for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
                if prompt_rows is None or index in prompt_rows:
                    yield from self._places(item, (*path, index), batch, rows, row if prompt_rows is None else index)


def _leaves(result: Any) -> list[Tensor | None]:
    """The tensors in what `encode_prompt` returned; None in place of anything else, such as a mask left out."""
    if isinstance(result, list | tuple):
        return [leaf for item in result for leaf in _leaves(item)]  # pyright: ignore[reportUnknownVariableType]
    return [result if isinstance(result, Tensor) else None]


def _mode(value: Tensor, leaf: Tensor, batch: int, rows: Rows) -> str | None:
    """How an argument holds a tensor of `encode_prompt`: whole, in rows, in columns, or at the beginning of rows."""
    chosen = [row for row, _ in rows]
    images = [image for _, image in rows]
    if value.ndim == leaf.ndim and value.ndim:
        if len(value) == batch and len(leaf) > max(images):
            value_rows = value[chosen]
            encoded = leaf[images]
            if _same(value_rows, encoded):
                return "rows"
            longer = value_rows.ndim > 1 and value_rows.shape[1] > encoded.shape[1] > 1
            if longer and _same(value_rows[:, : encoded.shape[1]], encoded):
                return "beginnings"
        if value.ndim > 2 and value.shape[1] == batch and leaf.shape[1] > max(images):
            return "columns" if _same(value[:, chosen], leaf[:, images]) else None
    return "whole" if _same(value, leaf) else None


def _same(first: Tensor, other: Tensor) -> bool:
    return first.shape == other.shape and bool(torch.equal(first, other.to(first.device, first.dtype)))


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
