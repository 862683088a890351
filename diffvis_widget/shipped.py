"""Where the built-in scenes model's files lie: its CLIP is the default meter of its own runs.

The files are data that the `scenes` room makes; knowing their place here keeps the imports going one way.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "scenes" / "weights"


def clip_folder() -> Path:
    """The folder of the scenes CLIP: `open_clip.create_model(f"local-dir:{clip_folder()}")` loads it."""
    return WEIGHTS / "clip"


def fingerprint() -> str | None:
    """The fingerprint (`Trace.meta["fingerprint"]`) of the shipped U-Net; None where no weights are installed."""
    path = WEIGHTS / "fingerprint.txt"
    return path.read_text().strip() if path.exists() else None
