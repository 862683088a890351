"""How a pipeline combined the conditional and the unconditional output, fitted to what its scheduler was given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .noise_levels import NoiseLevel
from .packing import pack, unpack

GuidanceCandidates = Callable[[Tensor, Tensor, Tensor, float | None, float], Iterator["Guidance"]]
"""(conditional, unconditional, output, scale, rescale) -> the forms of guidance to try, most likely first."""

SchedulerOutput = Callable[[NoiseLevel], tuple[float, float]]
"""Noise level of a step -> factors of the latents and of the guided output: their sum is the scheduler's input."""

_SIGNS = (1.0, -1.0)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: sign * (u + scale * (c - u)), or sign * c without an unconditional output u.

    With an output r for references without a prompt: sign * (u + reference_scale * (r - u) + scale * (c - r)).
    Equations: arXiv 2207.12598, and equation 3 of arXiv 2211.09800.

    Attributes:
        scale: Guidance scale; None without guidance.
        rescale: Share of the result that takes the standard deviation of c, in 0..1 (arXiv 2305.08891, Sec. 3.4).
        sign: 1 or -1; some models predict the negative of what their scheduler takes.
        norm_side: If not None, vectors of the result take the norm of those of c. 0: the vectors are rows of pixels
            (Lumina 2); otherwise squares of that many latent pixels along one side, over all channels (Qwen-Image).
        shrinks_only: Whether vectors keep their norm where that of c is larger (LongCat-Image).
        channels: Number of channels that are guided; the others are those of c (Lumina-Next). None: all.
        reference_scale: Guidance scale of references; None without r.
    """

    scale: float | None
    rescale: float = 0.0
    sign: float = 1.0
    norm_side: int | None = None
    shrinks_only: bool = False
    channels: int | None = None
    reference_scale: float | None = None

    def linear(self, conditional: Tensor, unconditional: Tensor, references: Tensor | None) -> Tensor:
        """Combine outputs by the scales alone.

        Args:
            conditional: The output for the prompt.
            unconditional: That for the negative prompt, of the same shape.
            references: That for references without a prompt, or None.

        Returns:
            Of the same shape.
        """
        scale = 1.0 if self.scale is None else self.scale
        if references is None or self.reference_scale is None:
            return unconditional + scale * (conditional - unconditional)
        of_references = self.reference_scale * (references - unconditional)
        return unconditional + of_references + scale * (conditional - references)

    def __call__(self, conditional: Tensor, unconditional: Tensor | None, references: Tensor | None = None) -> Tensor:
        """Combine the outputs.

        Args:
            conditional: (n, C, h, w), the denoiser's output for the prompt.
            unconditional: (n, C, h, w), its output for the negative prompt; None without guidance.
            references: (n, C, h, w), its output for references without a prompt; None where it is not evaluated.

        Returns:
            (n, C, h, w), what the scheduler is given.
        """
        if unconditional is None or self.scale is None:
            return self.sign * conditional
        guided = self.linear(conditional, unconditional, references)
        if self.rescale > 0:
            deviations = [part.std(dim=(1, 2, 3), keepdim=True) for part in (conditional, guided)]
            guided = self.rescale * guided * (deviations[0] / deviations[1]) + (1 - self.rescale) * guided
        if self.norm_side is not None:
            size = (guided.shape[2], guided.shape[3])
            vectors, targets = (_vectors(part, self.norm_side) for part in (guided, conditional))
            ratio = targets.norm(dim=-1, keepdim=True) / vectors.norm(dim=-1, keepdim=True)
            vectors = vectors * (ratio.clamp(max=1) if self.shrinks_only else ratio)
            guided = unpack(vectors, size, self.norm_side) if self.norm_side else vectors
        if self.channels is not None:
            guided = torch.cat([guided[:, : self.channels], conditional[:, self.channels :]], dim=1)
        return self.sign * guided


def output_alone(level: NoiseLevel) -> tuple[float, float]:
    """Give the scheduler the guided output as it is.

    Args:
        level: The noise level of the step.

    Returns:
        Factors of the latents and of the output: 0 and 1.
    """
    return 0.0, 1.0


def classifier_free(
    conditional: Tensor, unconditional: Tensor, output: Tensor, scale: float | None, rescale: float
) -> Iterator[Guidance]:
    """Propose classifier-free guidance with the scale that the pipeline states, then with a measured one.

    Args:
        conditional: (n, C, h, w).
        unconditional: (n, C, h, w).
        output: (n, C, h, w), what the scheduler was given.
        scale: Guidance scale stated by the pipeline, or None.
        rescale: Guidance rescale stated by the pipeline.

    Yields:
        Guidance of either sign.
    """
    if scale is not None:
        yield from (Guidance(scale, rescale, sign) for sign in _SIGNS)
    for sign in _SIGNS:
        yield Guidance(_ratio(sign * output - unconditional, conditional - unconditional), sign=sign)


def norm_preserving(side: int) -> GuidanceCandidates:
    """Make a proposer of guidance that keeps the norm of the conditional output, besides the plain form.

    Args:
        side: See `Guidance.norm_side`.

    Returns:
        A function like `classifier_free`.
    """

    def propose(
        conditional: Tensor, unconditional: Tensor, output: Tensor, scale: float | None, rescale: float
    ) -> Iterator[Guidance]:
        yield from classifier_free(conditional, unconditional, output, scale, rescale)
        # the part of u + scale (c - u) that is orthogonal to the output vanishes
        parts = (output, unconditional, conditional - unconditional)
        direction, start, difference = (_vectors(part, side).float() for part in parts)
        direction = direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        orthogonal = [part - (part * direction).sum(dim=-1, keepdim=True) * direction for part in (start, difference)]
        measured = _ratio(-orthogonal[0], orthogonal[1])
        yield from (Guidance(measured, sign=sign, norm_side=side) for sign in _SIGNS)

    return propose


def norm_limiting(side: int) -> GuidanceCandidates:
    """Make a proposer of guidance whose vectors are no longer than those of the conditional output.

    Args:
        side: See `Guidance.norm_side`.

    Returns:
        A function like `classifier_free`; without a stated scale it proposes the plain form alone.
    """

    def propose(
        conditional: Tensor, unconditional: Tensor, output: Tensor, scale: float | None, rescale: float
    ) -> Iterator[Guidance]:
        # first: where no vector is longer it equals the plain form, and it alone holds for other latents too
        if scale is not None:
            yield from (Guidance(scale, sign=sign, norm_side=side, shrinks_only=True) for sign in _SIGNS)
        yield from classifier_free(conditional, unconditional, output, scale, rescale)

    return propose


def first_channels(channels: int) -> GuidanceCandidates:
    """Make a proposer of guidance of some channels alone, besides the plain form.

    Args:
        channels: See `Guidance.channels`.

    Returns:
        A function like `classifier_free`.
    """

    def propose(
        conditional: Tensor, unconditional: Tensor, output: Tensor, scale: float | None, rescale: float
    ) -> Iterator[Guidance]:
        first, second, target = (part[:, :channels] for part in (conditional, unconditional, output))
        yield from (replace(form, channels=channels) for form in classifier_free(first, second, target, scale, 0.0))
        yield from classifier_free(conditional, unconditional, output, scale, rescale)

    return propose


def fit_guidance(
    conditional: Tensor,
    unconditional: Tensor | None,
    output: Tensor,
    scale: float | None,
    rescale: float,
    candidates: GuidanceCandidates = classifier_free,
    references: Tensor | None = None,
) -> tuple[Guidance, float]:
    """Find the guidance that turns both outputs into what the scheduler was given.

    Args:
        conditional: (n, C, h, w), the denoiser's output for the prompt.
        unconditional: (n, C, h, w), its output for the negative prompt; None without guidance.
        output: (n, C, h, w), what the scheduler was given.
        scale: Guidance scale stated by the pipeline, or None; a scale that does not explain `output` is measured.
        rescale: Guidance rescale stated by the pipeline.
        candidates: The forms to try, see `Family.guidance_candidates`.
        references: (n, C, h, w), its output for references without a prompt; None where it is not evaluated.

    Returns:
        The guidance, and its error: root mean square of the difference over that of `output`.
    """
    if unconditional is None:
        proposed = [Guidance(None, sign=sign) for sign in _SIGNS]
    elif references is not None:
        proposed = [
            _of_references(conditional, unconditional, references, sign * output, scale, sign) for sign in _SIGNS
        ]
    else:
        proposed = list(candidates(conditional, unconditional, output, scale, rescale))
    errors = [_error(guidance(conditional, unconditional, references), output) for guidance in proposed]
    # the first that explains it as well as any other, up to rounding: the pipeline's own statement comes first
    limit = 4 * min(errors) + 1e-6
    return next((guidance, error) for guidance, error in zip(proposed, errors, strict=True) if error <= limit)


def _of_references(
    conditional: Tensor, unconditional: Tensor, references: Tensor, output: Tensor, scale: float | None, sign: float
) -> Guidance:
    """Guidance of three branches with the scale that the pipeline states, and a measured one of references."""
    scale = 1.0 if scale is None else scale
    rest = output - unconditional - scale * (conditional - references)
    return Guidance(scale, sign=sign, reference_scale=_ratio(rest, references - unconditional))


def _vectors(latents: Tensor, side: int) -> Tensor:
    return pack(latents, side) if side else latents


def _ratio(numerator: Tensor, denominator: Tensor) -> float:
    """The factor that brings `denominator` closest to `numerator` (least squares)."""
    numerator, denominator = numerator.float(), denominator.float()
    return float((numerator * denominator).sum() / denominator.square().sum().clamp_min(1e-30))


def _error(guided: Tensor, output: Tensor) -> float:
    size = output.float().square().mean().sqrt().clamp_min(1e-12)
    error = (guided.float() - output.float()).square().mean().sqrt() / size
    return float(torch.nan_to_num(error, nan=float("inf")))
