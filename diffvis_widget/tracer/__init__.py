"""Watches a diffusers pipeline while it runs and yields a Trace, changing nothing of what the pipeline does."""

from .denoiser import Denoiser, denoiser
from .locks import denoiser_lock
from .preview import Preview, decode
from .trace_call import private_copy, trace
from .tracer import Tracer

__all__ = ["Denoiser", "Preview", "Tracer", "decode", "denoiser", "denoiser_lock", "private_copy", "trace"]
