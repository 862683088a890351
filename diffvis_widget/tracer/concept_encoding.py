"""Words outside the prompt: how they are encoded, before the run and apart from its prompt."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffvis_widget.arguments import items, shorten
from diffvis_widget.call_defaults import is_modular
from diffvis_widget.tracer.families import Family, find_family
from diffvis_widget.traces import Word
from diffvis_widget.traces.prompt_words import split_words

from .locks import own_work
from .prompt_encoding import encode, read_prompts

MOST_CONCEPTS = 64
LONGEST_CONCEPT = 80


@dataclass(frozen=True)
class Concepts:
    """Words outside the prompt, encoded.

    Attributes:
        texts: The concepts.
        rows: Of each concept, the text embeddings of its own prompt, (text tokens, width).
        positions: Of each concept, the positions of its tokens in these.
        token_texts: Of each concept, the texts of its tokens.
    """

    texts: Sequence[str]
    rows: Sequence[Tensor]
    positions: Sequence[list[int]]
    token_texts: Sequence[tuple[str, ...]]

    @property
    def counts(self) -> list[int]:
        """Number of tokens of each concept."""
        return [len(positions) for positions in self.positions]

    @property
    def embeddings(self) -> Tensor:
        """(n, width), the text embeddings of the tokens of all concepts, one concept after another."""
        return torch.cat([row[positions] for row, positions in zip(self.rows, self.positions, strict=True)])

    def membership(self, device: torch.device) -> Tensor:
        """Which token of `embeddings` belongs to which concept.

        Args:
            device: Where the result lies.

        Returns:
            float32 (n, concepts), 1 where it does.
        """
        owners = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))
        return torch.nn.functional.one_hot(owners, len(self.counts)).to(device, torch.float32)

    def words(self, first: int) -> list[Word]:
        """The concepts as words of a trace, as if their keys stood behind those of the prompt.

        Args:
            first: Number of text tokens of the prompt.

        Returns:
            One word of kind "concept" each.
        """
        words: list[Word] = []
        for text, count, texts in zip(self.texts, self.counts, self.token_texts, strict=True):
            words.append(Word(text, tuple(range(first, first + count)), "concept", texts))
            first += count
        return words


def check_concepts(concepts: Any) -> list[str]:
    """Check the argument `concepts`.

    Args:
        concepts: The argument.

    Returns:
        The concepts without white space around them, each once.

    Raises:
        TypeError: It is no list of texts.
        ValueError: A text is empty or too long, or there are too many.
    """
    texts: dict[str, None] = {}
    for concept in items("concepts", concepts, 'a list of words, such as ["sky", "dog"]'):
        if not isinstance(concept, str):
            raise TypeError(f'concepts must be a list of words, such as ["sky", "dog"]; one is {shorten(concept)}')
        text = " ".join(concept.split())
        if not text or len(text) > LONGEST_CONCEPT:
            raise ValueError(f"concepts must be texts of 1 to {LONGEST_CONCEPT} characters; one is {shorten(concept)}")
        texts[text] = None
    if len(texts) > MOST_CONCEPTS:
        raise ValueError(f"concepts must be at most {MOST_CONCEPTS} texts, not {len(texts)}")
    return list(texts)


def takes_concepts(pipe: Any, family: Family) -> str | None:
    """Explain why the maps of words outside the prompt cannot be traced.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser.

    Returns:
        The reason and a remedy; None where they can.
    """
    name = type(pipe).__name__
    if family.concept_keys is None and family.concept_stream is None:
        return (
            f"maps of words outside the prompt are not known for the {family.name} of {name}; they are traced in "
            "U-Nets with cross-attention (Stable Diffusion 1, 2 and XL), Stable Diffusion 3 and FLUX.1. Leave out "
            "concepts, or put the words into the prompt"
        )
    if is_modular(pipe) or not hasattr(pipe, "encode_prompt"):
        return (
            f"{name} has no method encode_prompt, which encodes words outside the prompt; leave out concepts, or use "
            "the standard pipeline of this model"
        )
    attributes = [attribute for stream in family.token_streams for attribute in stream.tokenizers]
    if not all(getattr(getattr(pipe, attribute, None), "is_fast", True) for attribute in attributes):
        return f"the tokenizer of {name} reports no offsets, by which tokens are told apart; leave out concepts"
    return None


def traceable_concepts(pipe: Any, concepts: Sequence[str]) -> list[str]:
    """Select the concepts whose maps a tracer can record.

    Args:
        pipe: The pipeline.
        concepts: Words.

    Returns:
        The first `MOST_CONCEPTS` of those that are short enough; none where the pipeline does not take concepts.
    """
    family, _ = find_family(pipe)
    if takes_concepts(pipe, family):
        return []
    return [text for text in concepts if len(text) <= LONGEST_CONCEPT][:MOST_CONCEPTS]


def encode_concepts(pipe: Any, family: Family, texts: Sequence[str]) -> Concepts:
    """Encode words outside the prompt by the pipeline's own text encoders, each in a prompt of its own.

    Args:
        pipe: The pipeline.
        family: The family of its denoiser; its `concept_template` is the prompt.
        texts: The concepts, at least one.

    Returns:
        The concepts.

    Raises:
        ValueError: The tokens of a concept cannot be told apart.
    """
    before, _, _ = family.concept_template.partition("{}")
    prompts = [family.concept_template.replace("{}", text) for text in texts]
    parameters = inspect.signature(pipe.encode_prompt).parameters
    settings = {
        "device": getattr(pipe, "_execution_device", None),
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
        "prompt_2": None,
        "prompt_3": None,
    }
    arguments = {name: value for name, value in settings.items() if name in parameters}
    # neither a tracer nor the random state notices
    with own_work(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        call = encode(pipe.encode_prompt, (), {"prompt": prompts, **arguments})
        batch = read_prompts(pipe, family, [call], None).prompt
    skipped = len(split_words(before))
    positions: list[list[int]] = []
    token_texts: list[tuple[str, ...]] = []
    for text, words in zip(texts, batch.words, strict=True):
        chosen = _words_behind(words, skipped)
        if not chosen or any(not word.token_texts for word in chosen):
            raise ValueError(
                f"concepts: the tokens of {text!r} cannot be told apart in the tokenizer of {type(pipe).__name__}, or "
                "the word is longer than its text encoder reads; leave it out"
            )
        positions.append([token for word in chosen for token in word.tokens])
        token_texts.append(tuple(part for word in chosen for part in word.token_texts))
    return Concepts(list(texts), [row.detach() for row in batch.embeddings], positions, token_texts)


def _words_behind(words: Sequence[Word], skipped: int) -> list[Word]:
    """The typed words without the first ones of each text encoder, which belong to the template."""
    chosen: list[Word] = []
    for encoder in dict.fromkeys(word.encoder for word in words):
        typed = [word for word in words if word.encoder == encoder and word.kind in ("word", "truncated")]
        chosen += [word for word in typed[skipped:] if word.tokens]
    return chosen
