"""Pages of the documentation that show runs of the scenes model; each build makes them again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

import diffvis_widget as dv

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

RUNS = {
    "circle": ("a red circle above a blue square", ["circle", "square", "red", "blue"], 7),
    "tree": ("a large tree and a small house in the snow", ["tree", "house", "snow", "water"], 3),
}

LIVE = "circle"
"""The run that the front page can show with the model, as `runs/live.html`."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add an offline page for each run, as `runs/NAME.html`, and one that paints.

    Args:
        files: The files of the documentation.
        config: The configuration of MkDocs.

    Returns:
        The same files.
    """
    pipe = dv.load()
    for name, (prompt, concepts, seed) in RUNS.items():
        trace = dv.trace(pipe, prompt, seed=seed, num_inference_steps=30, guidance_scale=7.5)
        trace.scores = dv.concept_scores(trace, concepts)
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, "run.html")
            dv.to_html(trace, page)
            files.append(File.generated(config, f"runs/{name}.html", content=page.read_bytes()))
            if name == LIVE:
                dv.to_html(trace, page, live=True)
                files.append(File.generated(config, "runs/live.html", content=page.read_bytes()))
    return files
