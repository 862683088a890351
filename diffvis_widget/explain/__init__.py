"""Why a step came out as it did: saliency maps of the latents, relevance of the words, and games that judge maps.

The methods of J.-H. Park, Y.-J. Ju, S.-W. Lee, "Explaining generative diffusion models via visual analysis for
interpretable decision-making process", Expert Systems with Applications 248 (2024) 123231, arXiv 2402.10404.
"""

from diffvis_widget.cancellation import Cancelled
from diffvis_widget.traces.results.saliency import Saliency

from .cam import df_cam
from .distances import frechet
from .insertion_deletion import GameResult, games
from .lime import df_lime
from .map_similarity import similarity
from .methods import OVERLAYS, estimate, estimates, overlay
from .rise import df_rise
from .role_relevance import RoleRelevance, relevance_by_role
from .word_relevance import Relevance, relevance, relevance_of

__all__ = [
    "OVERLAYS",
    "Cancelled",
    "GameResult",
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
    "relevance",
    "relevance_by_role",
    "relevance_of",
    "similarity",
]
