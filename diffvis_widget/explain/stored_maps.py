"""Stores computed maps in their trace."""

from __future__ import annotations

from diffvis_widget.traces import Saliency, Trace


def store_map(trace: Trace, saliency: Saliency) -> Saliency:
    """Store a map in its trace, as the last of `trace.saliency`; it replaces those of the same method and step.

    Args:
        trace: The run that the map is of.
        saliency: The map.

    Returns:
        The map.
    """
    replaced = saliency.method, saliency.step
    others = [stored for stored in trace.saliency if (stored.method, stored.step) != replaced]
    trace.saliency[:] = [*others, saliency]
    return saliency
