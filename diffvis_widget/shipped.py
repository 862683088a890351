"""Paths, mark and fingerprint of the packaged scenes model, for the packages below `scenes` in the import order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parent / "scenes" / "weights"
# The quickstart's run as the page receives it: `python -m diffvis_widget.scenes.record_quickstart` makes it.
QUICKSTART_RUN = WEIGHTS / "quickstart.run"
PAGE_GRAPHS = Path(__file__).parent / "scenes" / "page" / "graphs"
# Stored in the config of the text encoder; distinguishes the pipeline from any other of its class.
MARK = "diffvis-scenes"


def has_scenes_mark(pipe: Any) -> bool:
    """Whether a pipeline is made of the scenes model, with its own weights or with others.

    Args:
        pipe: A pipeline, or any other object.

    Returns:
        True if its text encoder has the mark.
    """
    config = getattr(getattr(pipe, "text_encoder", None), "config", None)
    return getattr(config, "trained_on", None) == MARK


def clip_folder() -> Path:
    """Locate the scenes CLIP: `open_clip.create_model(f"local-dir:{clip_folder()}")` loads it.

    Returns:
        Its folder.
    """
    return WEIGHTS / "clip"


def calibration_file() -> Path:
    """Locate the calibration of the scenes CLIP: `python -m diffvis_widget.scenes.evaluation.calibration` writes it.

    Returns:
        Its JSON file.
    """
    return WEIGHTS / "clip" / "calibration.json"


def scenes_fingerprint() -> str | None:
    """Return the fingerprint of the packaged U-Net, as `Trace.meta["fingerprint"]` holds it.

    Returns:
        16 hexadecimal digits; None where no weights are installed.
    """
    path = WEIGHTS / "fingerprint.txt"
    return path.read_text().strip() if path.exists() else None


def is_scenes_model(fingerprint: object) -> bool:
    """Whether a fingerprint is that of the built-in scenes model.

    Args:
        fingerprint: `Trace.meta.get("fingerprint")` of a run, or `diffvis_widget.tracer.fingerprint(pipe)`; any value,
            since the metadata of a trace file may hold anything.

    Returns:
        True for the fingerprint of the packaged weights.
    """
    return isinstance(fingerprint, str) and fingerprint == scenes_fingerprint()
