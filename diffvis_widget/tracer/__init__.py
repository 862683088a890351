"""Records what a diffusers pipeline does while it runs, without changing its output.

Other packages import from here, and from `pipeline_calls` and `attention_calls`.
"""

from .active_interventions import Intervention, StepRange, register_executor, set_active
from .batch_rows import pick_argument_rows, pick_rows
from .call_arguments import check_call_arguments
from .denoiser_inputs import find_live_call
from .families import Family, find_family, second_denoiser
from .guided_denoiser import Denoiser, denoiser
from .image_call import trace_image
from .locks import denoiser_lock, own_work
from .modular_calls import hide_progress_bars, take_guidance
from .preview import Preview, decode, to_pixels
from .prompt_sequence import prompt_sequence
from .provenance import fingerprint
from .run_estimate import Estimate, estimate
from .trace_call import private_copy, trace
from .tracer import OwnCallTracer, Tracer

__all__ = [
    "Denoiser",
    "Estimate",
    "Family",
    "Intervention",
    "OwnCallTracer",
    "Preview",
    "StepRange",
    "Tracer",
    "check_call_arguments",
    "decode",
    "denoiser",
    "denoiser_lock",
    "estimate",
    "find_family",
    "find_live_call",
    "fingerprint",
    "hide_progress_bars",
    "own_work",
    "pick_argument_rows",
    "pick_rows",
    "private_copy",
    "prompt_sequence",
    "register_executor",
    "second_denoiser",
    "set_active",
    "take_guidance",
    "to_pixels",
    "trace",
    "trace_image",
]
