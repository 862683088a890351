"""Records the run of the quickstart notebook, which the widget shows while the model loads.

python -m diffvis_widget.scenes.record_quickstart
"""

from __future__ import annotations

from typing import Any

from diffvis_widget.concepts import concept_scores
from diffvis_widget.shipped import QUICKSTART_RUN
from diffvis_widget.tracer import trace
from diffvis_widget.traces import Trace
from diffvis_widget.wire.shipped_run import CONCEPTS, REQUEST, pack_shipped_run

from . import load


def record(pipe: Any) -> Trace:
    """Make the run.

    Args:
        pipe: The scenes model.

    Returns:
        Its trace, with concept scores.
    """
    run = trace(
        pipe,
        REQUEST.prompt,
        seed=REQUEST.seed,
        num_inference_steps=REQUEST.steps,
        guidance_scale=REQUEST.guidance_scale,
    )
    concept_scores(run, CONCEPTS)
    return run


if __name__ == "__main__":
    QUICKSTART_RUN.write_bytes(pack_shipped_run(record(load())))
