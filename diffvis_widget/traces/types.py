"""The plain values that a trace is made of, and the array types that its packages share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]
"""One image (H, W, 3), or several (n, H, W, 3); of a video, frames stand before H."""
Size = tuple[int, int]
"""Height and width."""
StepMaps = Sequence[NDArray[np.float16]]
"""Attention maps of one step, (heads or 1, words, h, w), of a video (heads or 1, words, frames, h, w): one array per
layer, or a single one of their mean."""
StepSelection = int | slice | Sequence[int]
"""One step, or several whose mean is taken: a slice or a list of indices. Negative ones count from the end."""
FrameSelection = int | Literal["all"] | None
"""A latent frame of a video, all of them, or None for their mean. Negative ones count from the end."""
Decoder = Callable[[NDArray[Any]], Images]
"""Decodes latents (n, C, h, w) into images (n, H, W, 3); of videos, (n, C, F, h, w) into (n, frames, H, W, 3)."""

WordKind = Literal["word", "special", "template", "padding", "truncated", "concept"]
LayerKind = Literal["cross", "joint"]
MapKind = Literal["probability", "output", "refined"]
Keep = Literal["words", "layers", "heads"]
FrameKind = Literal["prediction", "latents", "guidance"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the prompt as the denoiser sees it, or a concept outside of the prompt.

    Attributes:
        text: the word as typed (punctuation is a word of its own); for other kinds, the text of the token.
        tokens: positions along the text keys of the denoiser, start token included; empty for a truncated word.
        kind: "word", "special" (start and end tokens), "template" (words that the pipeline adds), "padding" (one word
            for all padding tokens), "truncated" (beyond the length of the text encoder) or "concept" (not in the
            prompt, and read beside it; its tokens have positions behind those of the prompt).
        token_texts: the text of each token, for words of kind "word", "template" and "concept".
        encoder: the text encoder of these tokens, where a model has several ("CLIP" and "T5" in Stable Diffusion 3).

    Example:
        >>> Word("circle", (2, 3), "word", ("cir", "cle")).tokens
        (2, 3)
    """

    text: str
    tokens: tuple[int, ...]
    kind: WordKind
    token_texts: tuple[str, ...] = ()
    encoder: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation of the denoiser that the scheduler consumed.

    Attributes:
        index: its position in the run, from 0.
        timestep: of the scheduler, falling.
        sigma: noise over signal (the sigma of k-diffusion); for flow matching its own sigma, 0..1.
        second_order: whether it is a corrector's evaluation between two steps (Heun, KDPM2, warm-up of PNDM).

    Example:
        >>> Step(0, 999.0, 14.6).second_order
        False
    """

    index: int
    timestep: float
    sigma: float
    second_order: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the denoiser in which image tokens attend to text tokens.

    Attributes:
        name: dotted module path in the denoiser.
        kind: "cross" (the keys are text tokens) or "joint" (text and image tokens).
        heads: number of attention heads.
        grid: (h, w) of its attention maps.
        default: whether `Trace.heat_map` averages over it when no layer is named.
        reference_grids: (h, w) of the tokens of each reference image, in an editing model with joint attention.

    Example:
        >>> Layer("mid_block.attentions.0", "cross", 8, (8, 8), True).grid
        (8, 8)
    """

    name: str
    kind: LayerKind
    heads: int
    grid: Size
    default: bool
    reference_grids: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class PositionAttention:
    """What one position of the image attends to in one layer: attention probabilities, mean over heads.

    Attributes:
        layer: index of the layer in `Trace.layers`.
        words: float32 (words,); NaN for words that are not read there.
        image: float32 (h, w), of the positions of the image; None where the layer's self-attention cannot be read.
        references: float32 (h, w) of the tokens of each reference image.
    """

    layer: int
    words: Floats
    image: Floats | None
    references: tuple[Floats, ...] = ()


class HasBytes(Protocol):
    """An array in memory or in a file."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """What one step adds to a trace. Of a video, every array has an axis of F latent frames before h.

    Attributes:
        step: the step.
        latents: (C, h, w) that entered the denoiser.
        result: (C, h, w) after the scheduler's step.
        prediction: (C, h, w), the predicted clean latents.
        guidance: float32 (h, w), RMS over channels of conditional minus unconditional; None without guidance.
        visible: factor that brings the latents to the scale of the VAE; 1 unless the scheduler keeps noise unscaled.
        maps: attention maps of the prompt's words.
        negative: attention maps of the negative prompt's words; None at steps without guidance.
        reused: indices of layers that did not run at this step because a cache served their older result.
        outputs: maps in output space, where these were traced.
        refined: float16 (words, h, w), maps refined by self-attention; None where no self-attention could be read.
    """

    step: Step
    latents: NDArray[Any]
    result: NDArray[Any]
    prediction: NDArray[Any]
    guidance: Floats | None
    visible: float
    maps: StepMaps
    negative: StepMaps | None = None
    reused: tuple[int, ...] = ()
    outputs: StepMaps | None = None
    refined: NDArray[np.float16] | None = None

    def arrays(self) -> Sequence[HasBytes]:
        """Lists all arrays of the record, for their sizes.

        Returns:
            The arrays; ``result`` is often the same object as the next record's ``latents``.
        """
        arrays: list[NDArray[Any]] = [self.latents, self.result, self.prediction, *self.maps]
        arrays += [*(self.negative or ()), *(self.outputs or ())]
        return [*arrays, *(part for part in (self.guidance, self.refined) if part is not None)]
