"""The prompts of a pipeline call: texts, embeddings and words, one entry per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.traces import Word

from .attention_probabilities import Targets, WordColumns

Embeddings = Sequence[Tensor] | Tensor


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

    def take_words(self, batches: Sequence[PromptBatch]) -> None:
        """Take text and words of rows without text from batches that hold the same embeddings: waits for the device.

        Args:
            batches: Prompts that were encoded before.
        """
        for image, (text, row) in enumerate(zip(self.typed, self.embeddings, strict=True)):
            if text is not None:
                continue
            for batch in batches:
                index = next((index for index, other in enumerate(batch.embeddings) if _same(other, row)), None)
                if index is not None and batch.typed[index] is not None:
                    self.typed[image], self.words[image] = batch.typed[index], batch.words[index]
                    break

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
        is_padded = not isinstance(self.embeddings, Tensor) and isinstance(text, Tensor)
        rows = [row[: len(part)] if is_padded else row for part, row in zip(self.embeddings, text, strict=True)]
        same = [
            torch.all(embedding.to(row.device, row.dtype) == row)
            if embedding.shape == row.shape
            else torch.tensor(False)
            for embedding, row in zip(self.embeddings, rows, strict=True)
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
        typed: What was typed for each image, where a model of the pipeline rewrote it; else None.
    """

    prompt: PromptBatch
    negative: PromptBatch | None
    second: list[str | None]
    typed: list[str | None] = field(default_factory=list["str | None"])

    @property
    def images(self) -> int:
        """Number of images that the call generates."""
        return len(self.prompt.typed)


def _same(embedding: Tensor, other: Tensor) -> bool:
    same_memory = embedding.shape == other.shape and embedding.data_ptr() == other.data_ptr()
    return same_memory or (
        embedding.shape == other.shape and torch.equal(embedding.to(other.device, other.dtype), other)
    )
