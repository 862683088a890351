"""The generators of a call: their seeds, and whether a new generator with that seed gives the same noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class NoiseSource:
    """A generator before its call draws from it.

    Attributes:
        seed: Its seed.
        device: Type of its device, such as "cpu".
        is_used: Whether it has drawn numbers since it was seeded, or draws for an earlier image of the call.
        entries: Number of its entries in the list of generators.
    """

    seed: int
    device: str
    is_used: bool
    entries: int = 1


def noise_sources(generator: Any) -> list[NoiseSource | None]:
    """Read the generators of a call, without drawing from them.

    Args:
        generator: The argument ``generator`` of a call: a generator, a list of these, or None.

    Returns:
        One entry for each generator; None for one that is missing.
    """
    generators: list[Any] = list(generator) if isinstance(generator, list | tuple) else [generator]
    sources: list[NoiseSource | None] = []
    for index, source in enumerate(generators):
        entries = sum(other is source for other in generators)
        is_later = any(other is source for other in generators[:index])
        sources.append(None if source is None else _read(source, entries, is_later))
    return sources or [None]


def noise_entries(sources: list[NoiseSource | None], image: int, images: int) -> dict[str, Any]:
    """Describe where the noise of an image came from.

    Args:
        sources: Of `noise_sources`.
        image: Index of the image in the call.
        images: Number of images of the call.

    Returns:
        Entries of `Trace.meta`: ``seed``, None where a new generator with a seed does not give this noise; and
        ``generator`` with the seed and device of the generator, whether it was used before, and how many images share
        it.
    """
    source = sources[image % len(sources)]
    if source is None:
        return {"seed": None}
    sharing = images if len(sources) == 1 else source.entries
    is_later = len(sources) == 1 and image > 0
    described = {"seed": source.seed, "device": source.device, "is_used": source.is_used, "images": sharing}
    return {"seed": None if source.is_used or is_later else source.seed, "generator": described}


def _read(generator: Any, entries: int, is_later: bool) -> NoiseSource:
    seed, device = int(generator.initial_seed()), generator.device
    fresh = torch.Generator(device).manual_seed(seed)
    is_used = is_later or not torch.equal(generator.get_state(), fresh.get_state())
    return NoiseSource(seed, str(device.type), is_used, entries)
