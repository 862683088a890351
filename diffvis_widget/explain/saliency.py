"""What an explaining method finds; a trace keeps it, so it lives with the traces."""

from __future__ import annotations

from diffvis_widget.traces.results.saliency import Floats, Saliency, scale

__all__ = ["Floats", "Saliency", "scale"]
