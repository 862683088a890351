"""What a run's metadata and file say about its noise levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from .json_fields import read_number


def lacks_noise_levels(meta: Mapping[str, Any]) -> bool:
    """Whether the noise levels of a run are unknown, so that `Step.sigma` and the predicted clean latents are NaN.

    Args:
        meta: `Trace.meta`.

    Returns:
        True for the run of a scheduler that is not known here.
    """
    return meta.get("noise_levels") == "unknown"


def is_flow_matching(meta: Mapping[str, Any]) -> bool:
    """Whether `Step.sigma` of a run is that of flow matching, 0..1, and not noise over signal.

    Args:
        meta: `Trace.meta`.

    Returns:
        True for schedulers of flow matching, and for others with sigmas of flow matching.
    """
    config: Any = meta.get("scheduler_config")
    uses_flow = isinstance(config, dict) and bool(cast("dict[str, Any]", config).get("use_flow_sigmas"))
    return uses_flow or str(meta.get("scheduler", "")).startswith(("FlowMatch", "LTXEuler"))


def write_level(value: float) -> float | str:
    """Convert a noise level, or a timestep, for the header of a file; JSON has neither NaN nor infinity.

    Args:
        value: The number.

    Returns:
        The number; "nan" for NaN, "inf" for infinity.
    """
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf"


def read_level(name: str, value: Any) -> float:
    """Read what `write_level` wrote.

    Args:
        name: Of the field.
        value: Its value.

    Returns:
        The number, NaN or infinity.

    Raises:
        TraceFileError: It is something else.
    """
    return float(value) if value in ("nan", "inf") else read_number(name, value)
