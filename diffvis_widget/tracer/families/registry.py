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

from .family import Family, any_pipeline, no_modules

_DENOISER_ATTRIBUTES = ("unet", "transformer")
_registered: list[Family] = []


@functools.cache
def _built_in() -> tuple[Family, ...]:
    files = pkgutil.iter_modules([str(Path(__file__).parent)], prefix=f"{__package__}.")
    modules = [importlib.import_module(name) for name in sorted(module.name for module in files)]
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
        TypeError: `family` is not a Family, or its `denoisers` are not a tuple of class names.
        ValueError: The name is taken, no denoiser is named, or `sequence_layout` does not suit the kind of attention.
    """
    if not isinstance(family, Family):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"family must be a Family, not {type(family).__name__}")
    names: Any = family.denoisers
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f'family {family.name!r}: denoisers must be a tuple of class names, such as ("MyModel",), not {names!r}'
        )
    if not family.name.strip() or not all(names) or not names:
        raise ValueError("family: name and denoisers (class names) must not be empty")
    if any(other.name == family.name for other in registered_families()):
        raise ValueError(f"family: the name {family.name!r} is taken; unregister that family, or use another name")
    if family.attention_kind not in ("cross", "joint"):
        raise ValueError(
            f'family {family.name!r}: attention_kind must be "cross" or "joint", not {family.attention_kind!r}'
        )
    traces_words = bool(family.token_streams) or family.attention_modules is not no_modules
    if traces_words and family.attention_kind == "joint" and family.sequence_layout is None:
        raise ValueError(
            f"family {family.name!r}: joint attention needs sequence_layout, for example sequence_layouts.text_first"
        )
    if family.attention_kind == "cross" and family.sequence_layout is not None:
        raise ValueError(f"family {family.name!r}: sequence_layout is for joint attention; leave it out")
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
        The family, and the denoiser as the pipeline holds it. A `unet` or `transformer` of an unknown class, or a
        denoiser without attention to text, gets a family named after its class, without attention modules.

    Raises:
        TypeError: `pipe` is not a pipeline.
        ValueError: The pipeline has no denoiser.
    """
    if not (callable(pipe) and isinstance(getattr(pipe, "components", None), dict)):
        raise TypeError(f"pipe must be a diffusers pipeline, not {type(pipe).__name__}")
    attributes = (*_DENOISER_ATTRIBUTES, *(family.denoiser_attribute for family in registered_families()))
    modules = {attribute: getattr(pipe, attribute, None) for attribute in attributes}
    denoisers = {attribute: module for attribute, module in modules.items() if isinstance(module, nn.Module)}
    for attribute, denoiser in denoisers.items():
        family = _best(pipe, attribute, uncompiled(denoiser))
        if family is not None:
            return _adapted(family, denoiser), denoiser
    for attribute in _DENOISER_ATTRIBUTES:
        if attribute in denoisers:
            denoiser = denoisers[attribute]
            return _adapted(Family(name="", denoisers=(), denoiser_attribute=attribute), denoiser), denoiser
    searched = ", ".join(f"`{attribute}`" for attribute in modules)
    raise ValueError(
        f"{type(pipe).__name__} has no denoiser that can be traced; searched attributes: {searched}. To add another "
        "denoiser, see docs/pages/add-a-family.md"
    )


def second_denoiser(pipe: Any, family: Family) -> nn.Module | None:
    """Find the second denoiser of a pipeline, which takes over within a run.

    Args:
        pipe: A diffusers pipeline.
        family: The family of its denoiser.

    Returns:
        The denoiser, not compiled; None where there is none.
    """
    held = denoisers_of(pipe, family)[1:]
    return uncompiled(held[0]) if held else None


def denoisers_of(pipe: Any, family: Family) -> list[nn.Module]:
    """List the denoisers of a pipeline as it holds them: compiled, where they were compiled.

    Args:
        pipe: A diffusers pipeline.
        family: The family of its denoiser.

    Returns:
        The denoiser, and the second one where there is one.
    """
    names = [family.denoiser_attribute, *([] if family.second_denoiser is None else [family.second_denoiser])]
    return [module for name in names if isinstance(module := getattr(pipe, name, None), nn.Module)]


def _adapted(family: Family, denoiser: nn.Module) -> Family:
    """The family, or one named after the denoiser's class where the denoiser has no attention to text."""
    plain: Any = uncompiled(denoiser)
    if family.attention_modules(plain):
        patch_size = plain.config.get("patch_size") if family.patch_size_in_config else None
        return family if patch_size is None else replace(family, patch_size=int(patch_size))
    return replace(family, name=type(plain).__name__, token_streams=(), sequence_layout=None)


def _best(pipe: Any, attribute: str, denoiser: nn.Module) -> Family | None:
    classes = [base.__name__ for base in type(denoiser).__mro__]
    ranks: dict[tuple[int, bool, int], Family] = {}
    for index, family in enumerate(registered_families()):
        distances = [classes.index(name) for name in family.denoisers if name in classes]
        if distances and family.denoiser_attribute == attribute and family.accepts(pipe):
            ranks[min(distances), family.accepts is any_pipeline, -index] = family
    return ranks[min(ranks)] if ranks else None
