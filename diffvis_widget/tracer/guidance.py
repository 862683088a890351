"""How the answers to the prompt and to the negative prompt become one: found by what a pipeline did with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffvis_widget.tracer.families.sequence_layouts import packed, unpacked


@dataclass(frozen=True)
class Guidance:
    """sign * (u + scale (c - u)), brought to the size of c as the run did it; sign * c where there is no u.

    Classifier-free guidance, arXiv 2207.12598. rescale: share of the result that takes the standard deviation of c
    (arXiv 2305.08891, Sec. 3.4). lengths: its vectors take the length of those of c: side 0 means the rows of pixels
    (Lumina 2), another side the squares of that many pixels, over all channels (Qwen-Image). sign: some models predict
    the negative of what their scheduler takes.
    """

    scale: float | None
    rescale: float = 0.0
    sign: float = 1.0
    lengths: int | None = None

    def __call__(self, conditional: Tensor, unconditional: Tensor | None) -> Tensor:
        """Answers (n, C, h, w) to the guided one, as the scheduler takes it."""
        if unconditional is None or self.scale is None:
            return self.sign * conditional
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.rescale > 0:
            spread = [part.std(dim=(1, 2, 3), keepdim=True) for part in (conditional, guided)]
            guided = self.rescale * guided * (spread[0] / spread[1]) + (1 - self.rescale) * guided
        if self.lengths is not None:
            size = (guided.shape[2], guided.shape[3])
            own, wanted = (_vectors(part, self.lengths) for part in (guided, conditional))
            own = own * (wanted.norm(dim=-1, keepdim=True) / own.norm(dim=-1, keepdim=True))
            guided = unpacked(own, size, self.lengths) if self.lengths else own
        return self.sign * guided


def find(
    conditional: Tensor,
    unconditional: Tensor | None,
    output: Tensor,
    scale: float | None,
    rescale: float,
    packing: int | None,
) -> tuple[Guidance, float]:
    """The guidance that makes the answers to the output that the scheduler was given, and how far off it is.

    scale, rescale: as the pipeline says, where it does; a scale that does not explain the output is measured instead.
    packing: see `Family`. All tensors (n, C, h, w). Off: root mean square of the difference over that of the output.
    """
    known = _known(conditional, unconditional, output, scale, rescale, packing)
    tried = [(_off(one(conditional, unconditional), output), one) for one in known]
    off = min(off for off, _ in tried)
    # the first that explains it as well as any other, up to rounding: what the pipeline says comes first
    return next((one, own) for own, one in tried if own <= 4 * off + 1e-6)


def _known(
    conditional: Tensor,
    unconditional: Tensor | None,
    output: Tensor,
    scale: float | None,
    rescale: float,
    packing: int | None,
) -> Iterator[Guidance]:
    signs = (1.0, -1.0)
    if unconditional is None:
        yield from (Guidance(None, sign=sign) for sign in signs)
        return
    if scale is not None:
        yield from (Guidance(scale, rescale, sign) for sign in signs)
    spread = conditional - unconditional
    for sign in signs:
        yield Guidance(_ratio(sign * output - unconditional, spread), sign=sign)
        for side in (0, packing) if packing else (0,):
            # the part of u + scale (c - u) that is not along the output vanishes
            along, start, way = (_vectors(part, side).float() for part in (output, unconditional, spread))
            along = along / along.norm(dim=-1, keepdim=True).clamp_min(1e-12)
            across = [part - (part * along).sum(dim=-1, keepdim=True) * along for part in (start, way)]
            yield Guidance(_ratio(-across[0], across[1]), sign=sign, lengths=side)


def _vectors(latents: Tensor, side: int) -> Tensor:
    return packed(latents, side) if side else latents


def _ratio(of: Tensor, to: Tensor) -> float:
    """The factor that brings `to` closest to `of`."""
    of, to = of.float(), to.float()
    return float((of * to).sum() / to.square().sum().clamp_min(1e-30))


def _off(found: Tensor, output: Tensor) -> float:
    size = output.float().square().mean().sqrt().clamp_min(1e-12)
    return float(torch.nan_to_num((found.float() - output.float()).square().mean().sqrt() / size, nan=float("inf")))
