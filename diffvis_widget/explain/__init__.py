"""Explains single steps: saliency maps over the latents, relevance of words, and games that compare maps.

The methods of J.-H. Park, Y.-J. Ju, S.-W. Lee, "Explaining generative diffusion models via visual analysis for
interpretable decision-making process", Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404.

Importing the package loads no torch: the registry of methods is there at once, the functions when one is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.traces import Saliency

from .methods import Method, register_method, registered_methods, unregister_method

if TYPE_CHECKING:
    from .functions import (
        GameResult,
        Relevance,
        RoleRelevance,
        df_cam,
        df_lime,
        df_rise,
        estimate,
        estimates,
        frechet,
        games,
        overlay,
        relevance,
        relevance_by_role,
        relevance_of,
        similarity,
        smooth_rise,
    )

__all__ = [
    "Cancelled",
    "GameResult",
    "Method",
    "Relevance",
    "RoleRelevance",
    "Saliency",
    "df_cam",
    "df_lime",
    "df_rise",
    "estimate",
    "estimates",
    "frechet",
    "games",
    "overlay",
    "register_method",
    "registered_methods",
    "relevance",
    "relevance_by_role",
    "relevance_of",
    "similarity",
    "smooth_rise",
    "unregister_method",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    from . import functions

    value = globals()[name] = getattr(functions, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
