"""What a page that paints carries beside its runs: the model, onnxruntime's program, and the settings of its engine."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget import front_end
from diffvis_widget.arguments import file_path, instance, items, shorten, text
from diffvis_widget.explain.methods import method_rows
from diffvis_widget.scenes.page.weights import SOURCES, graph_index, page_graph, page_weights, read_tensors
from diffvis_widget.shipped import WEIGHTS, calibration_file, is_scenes_model
from diffvis_widget.traces import Note, Trace
from diffvis_widget.traces.file.whole_file import check_destination, write_bytes_whole
from diffvis_widget.wire.packed_run import Message, pack

from .page_shell import Shell, fill_page

SCENES_LABEL = "scenes CLIP"
DEFAULT_STEPS, DEFAULT_GUIDANCE = 30, 7.5


def playground(path: str | os.PathLike[str], prompt: str = "", notes: Sequence[Note] = ()) -> Path:
    """Write a page in which the scenes model paints: one HTML file, without Python and without a network.

    Its reader types a prompt and sees it painted step by step, with heat maps, layers, heads, concept meters,
    word weights and comparisons. The same prompt, seed and settings give the image of `diffvis_widget.trace`.

    Args:
        path: The file to write.
        prompt: The prompt that is painted when the page opens; "" leaves it to the reader.
        notes: Notes on every run in the page, such as the tasks of a lesson. A note's words and step are ignored where
            a run lacks them.

    Returns:
        The path of the file.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The path has another suffix than .html.
        FileNotFoundError: The folder does not exist, or the front end or the weights are missing.
        OSError: The file cannot be written; no part of it is left.

    Example:
        >>> import diffvis_widget as dv, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dv.playground(pathlib.Path(folder, "lab.html"), prompt="a red circle").stat().st_size < 28e6
        True
    """
    target = file_path("path", path, ".html", ".htm")
    text("prompt", prompt)
    for note in items("notes", notes, "a list of dv.Note"):
        instance("notes", note, Note, "a list of dv.Note")
    check_destination(target)
    traits: dict[str, Any] = {
        "prompt": prompt,
        "steps": DEFAULT_STEPS,
        "guidance_scale": DEFAULT_GUIDANCE,
        "status": "idle",
    }
    return write_bytes_whole(target, live_page([], traits, notes, title=prompt or "A model that paints").encode())


def check_live(traces: Sequence[Trace]) -> None:
    """Refuse a live page of runs of another model.

    Args:
        traces: The runs of the page.

    Raises:
        ValueError: A run is not of the scenes model.
    """
    for trace in traces:
        if not is_scenes_model(trace.meta.get("fingerprint")):
            pipeline = shorten(trace.meta.get("pipeline", "another model"))
            raise ValueError(
                "live=True puts the model into the page, and only the built-in scenes model is small enough for that; "
                f"this run is of {pipeline}: leave live=False"
            )


def live_page(messages: Sequence[Message], traits: dict[str, Any], notes: Sequence[Note] = (), title: str = "") -> str:
    """The HTML of a page that paints.

    Args:
        messages: The messages of its recorded runs.
        traits: The traits of the widget at first.
        notes: Notes on every new run.
        title: Title of the page.

    Returns:
        The HTML.

    Raises:
        FileNotFoundError: The front end or the weights are missing.
    """
    script, wasm = front_end.engine()
    blocks = {
        "dv-engine": ("text/plain", script),
        "dv-wasm": ("application/octet-stream", base64.b64encode(wasm).decode()),
        "dv-model": ("application/octet-stream", base64.b64encode(packed_model(_notes_key(notes))).decode()),
    }
    # Not compressed: a browser without DecompressionStream shows the recorded run all the same.
    run = base64.b64encode(pack(messages)).decode()
    return fill_page(Shell(title=title, traits=traits, run=run, blocks=blocks))


def _notes_key(notes: Sequence[Note]) -> str:
    rows = [
        {
            "text": note.text,
            "step": note.step,
            "words": [str(word) for word in note.words],
            "region": note.region,
            "expects": note.expectation and note.expectation.data(),
        }
        for note in notes
    ]
    return json.dumps(rows)


@functools.lru_cache(maxsize=4)
def packed_model(notes: str) -> bytes:
    """The packed model of a page: settings, graphs and weights.

    Args:
        notes: Notes on every new run, as JSON.

    Returns:
        A gzip file.
    """
    buffers = [part for name in SOURCES for part in (page_graph(name), page_weights(name))]
    packed = pack([Message({**_settings(), "notes": json.loads(notes)}, tuple(buffers))])
    return gzip.compress(packed, 6, mtime=0)


def _settings() -> dict[str, Any]:
    """The settings that js/src/engine/settings.ts reads."""
    from diffvis_widget.concepts.meter import UNRELATED
    from diffvis_widget.scenes.world import vocabulary

    tokenizer = json.loads((WEIGHTS / "pipeline" / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    index = graph_index()
    return {
        "merges": merges,
        "sigmas": index["unet"]["sigmas"],
        "layers": index["unet"]["layers"],
        "vocabulary": sorted(vocabulary()),
        "unrelated": list(UNRELATED),
        "logit_scale": float(np.exp(read_tensors("image_meter")["logit_scale"].astype(np.float32))),
        "meter": SCENES_LABEL,
        "calibration": json.loads(calibration_file().read_text(encoding="utf-8")),
        "scheduler": "DPMSolverMultistepScheduler",
        "pipeline": "StableDiffusionPipeline",
        "default_steps": DEFAULT_STEPS,
        "default_guidance_scale": DEFAULT_GUIDANCE,
        "methods": method_rows(),
    }
