"""The functions of `dv.explain` that need torch; the package imports them when one of them is first used."""

from __future__ import annotations

from .cam import df_cam
from .distances import frechet
from .insertion_deletion import GameResult, games
from .lime import df_lime
from .map_similarity import similarity
from .masked_regions import smooth_rise
from .overlay_maps import estimate, estimates, overlay
from .rise import df_rise
from .role_relevance import RoleRelevance, relevance_by_role
from .word_relevance import Relevance, relevance, relevance_of

__all__ = [
    "GameResult",
    "Relevance",
    "RoleRelevance",
    "df_cam",
    "df_lime",
    "df_rise",
    "estimate",
    "estimates",
    "frechet",
    "games",
    "overlay",
    "relevance",
    "relevance_by_role",
    "relevance_of",
    "similarity",
    "smooth_rise",
]
