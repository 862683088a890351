"""Watches a diffusers pipeline while it runs and yields a Trace, changing nothing of what the pipeline does."""

from .guided_denoiser import Denoiser, denoiser
from .locks import denoiser_lock
from .preview import Preview, decode
from .provenance import fingerprint
from .run_estimate import Estimate, estimate
from .trace_call import private_copy, trace
from .tracer import Tracer

__all__ = [
    "Denoiser",
    "Estimate",
    "Preview",
    "Tracer",
    "decode",
    "denoiser",
    "denoiser_lock",
    "estimate",
    "fingerprint",
    "private_copy",
    "trace",
]
