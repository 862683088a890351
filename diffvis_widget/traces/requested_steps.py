"""The number of denoising steps that the call of a run requested."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trace import Trace


def requested_steps(trace: Trace) -> int:
    """Read the number of steps that a call requested; a second-order scheduler evaluates the denoiser more often.

    Args:
        trace: The run.

    Returns:
        ``num_inference_steps`` of the call; where the trace lacks it, the number of planned or recorded steps.
    """
    requested, planned = (trace.meta.get(name) for name in ("num_inference_steps", "planned_steps"))
    if isinstance(requested, int) and not isinstance(requested, bool) and requested > 0:
        return requested
    if not trace.is_complete and isinstance(planned, int):
        return int(planned)
    return sum(not step.second_order for step in trace.steps)
