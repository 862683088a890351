"""The registered model families, and the family of a pipeline.

Every module of this package that defines `FAMILY` is registered; `register` adds families from outside.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from diffvis_widget._compat.torch_compile import uncompiled

from .family import Family, any_pipeline

_DENOISER_ATTRIBUTES = ("unet", "transformer")
_registered: list[Family] = []


@functools.cache
def _built_in() -> tuple[Family, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


def registered_families() -> tuple[Family, ...]:
    """List the families.

    Returns:
        Those of this package, then those added by `register`, in order of registration.
    """
    return (*_built_in(), *_registered)


def register(family: Family) -> None:
    """Add a model family, for all traces from now on.

    It takes precedence over families that were registered before for the same denoiser class.

    Args:
        family: The family; its name is not taken yet.

    Raises:
        TypeError: `family` is not a Family.
        ValueError: The name is taken, no denoiser is named, or joint attention lacks its sequence layout.
    """
    if not isinstance(family, Family):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"family must be a Family, not {type(family).__name__}")
    if not family.name or not family.denoisers:
        raise ValueError("family: name and denoisers (class names) must not be empty")
    if any(other.name == family.name for other in registered_families()):
        raise ValueError(f"family: the name {family.name!r} is taken; unregister that family, or use another name")
    if family.token_streams and family.attention_kind == "joint" and family.sequence_layout is None:
        raise ValueError(
            f"family {family.name!r}: joint attention needs sequence_layout, for example sequence_layouts.text_first"
        )
    _registered.append(family)


def unregister(name: str) -> None:
    """Remove a family that `register` added.

    Args:
        name: Its name.

    Raises:
        KeyError: No such family was added.
    """
    for family in _registered:
        if family.name == name:
            _registered.remove(family)
            return
    added = ", ".join(repr(family.name) for family in _registered) or "none"
    raise KeyError(f"name: no family {name!r} was added by register; added families: {added}")


def find_family(pipe: Any) -> tuple[Family, nn.Module]:
    """Find the family of a pipeline, and its denoiser.

    Of several families, the one that names the nearest class of the denoiser is chosen; among these, one that names its
    pipelines (`accepts`); among these, the latest.

    Args:
        pipe: A diffusers pipeline.

    Returns:
        The family, and the denoiser as the pipeline holds it. A denoiser of an unknown class, or without attention to
        text, gets a family named after its class, without attention modules.

    Raises:
        TypeError: `pipe` is not a pipeline.
        ValueError: The pipeline has no denoiser.
    """
    if not (callable(pipe) and isinstance(getattr(pipe, "components", None), dict)):
        raise TypeError(f"pipe must be a diffusers pipeline, not {type(pipe).__name__}")
    families = registered_families()
    attributes = dict.fromkeys((*_DENOISER_ATTRIBUTES, *(family.denoiser_attribute for family in families)))
    for attribute in attributes:
        denoiser = getattr(pipe, attribute, None)
        if isinstance(denoiser, nn.Module):
            plain = uncompiled(denoiser)
            family = _best(pipe, attribute, plain)
            if not family.attention_modules(plain):
                family = replace(family, name=type(plain).__name__, token_streams=(), sequence_layout=None)
            return family, denoiser
    searched = ", ".join(f"`{attribute}`" for attribute in attributes)
    raise ValueError(f"{type(pipe).__name__} has no denoiser that can be traced; searched attributes: {searched}")


def _best(pipe: Any, attribute: str, denoiser: nn.Module) -> Family:
    classes = [base.__name__ for base in type(denoiser).__mro__]
    ranks: dict[tuple[int, bool, int], Family] = {}
    for index, family in enumerate(registered_families()):
        distances = [classes.index(name) for name in family.denoisers if name in classes]
        if distances and family.denoiser_attribute == attribute and family.accepts(pipe):
            ranks[min(distances), family.accepts is any_pipeline, -index] = family
    return ranks[min(ranks)] if ranks else Family(name="", denoisers=(), denoiser_attribute=attribute)
