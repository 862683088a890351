"""The model families: one file each, and the registry that finds the family of a pipeline."""

from .family import Family, modules_ending
from .registry import denoisers_of, find_family, register, registered_families, second_denoiser, unregister
from .token_streams import TokenStream

__all__ = [
    "Family",
    "TokenStream",
    "denoisers_of",
    "find_family",
    "modules_ending",
    "register",
    "registered_families",
    "second_denoiser",
    "unregister",
]
