"""The table of pipelines that edit an image, or begin from one: a part of what benchmarks.tracer.pipelines writes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from benchmarks.tracer.pipeline_classes import denoiser_of
from diffvis_widget.tracer.families import find_family
from diffvis_widget.tracer.pipeline_support import reason_why_refused

HEAD = """
## Editing, image-to-image and inpainting pipelines

Every pipeline of diffusers that takes an image and a prompt and makes an image. Editing models see reference images as
tokens beside those of the image; the others begin from an image, or paint inside a mask. Proven: `test_editing.py` in
`tests/tracer/families` runs it small, with the image bit for bit unchanged, and compares every map with a naive float64
softmax over the queries and keys of the run; of references also what a place attends to (`Trace.attention_from`).

| pipeline | denoiser | | references | family |
|---|---|---|---|---|
"""

NAMES = (
    "Img2Img",
    "Inpaint",
    "Fill",
    "Edit",
    "Kontext",
    "Redux",
    "Omni",
    "Layered",
    "Upscale",
    "SuperResolution",
    "KV",
    "Flux2",
    "UnCLIP",
)
"""Parts of the names of such pipelines."""

UNCLIP = "it is a cascade: a decoder and two networks that enlarge, each with images and a scheduler of its own"
REASONS = {
    "FluxPriorReduxPipeline": "refused: it has no denoiser, and only makes embeddings",
    "LDMSuperResolutionPipeline": "without word maps: it reads no text",
    "UnCLIPPipeline": f"refused: {UNCLIP}",
    "UnCLIPImageVariationPipeline": f"refused: {UNCLIP}",
}

OTHER_TASKS = ("Modular", "ControlNetXS", "Cosmos3", "Lucy", "EasyAnimate", "Chrono", "ShapE", "Audio", "Wan", "Onnx")
"""Parts of the names of pipelines in other tables, or that make no images."""


def state_of(name: str, proven: Mapping[str, str]) -> tuple[str, str]:
    """What the tracer does with a pipeline, and the family of its denoiser. proven: families by name of the class."""
    from benchmarks.tracer.pipelines import NO_WORDS

    if name in proven:
        return "traced, proven", proven[name]
    if reason := reason_why_refused(name):
        return f"refused: {reason}", ""
    if reason := REASONS.get(name):
        return reason, ""
    if reason := NO_WORDS.get(name):
        return f"without word maps: {reason}", ""
    if name.startswith("KandinskyV22"):
        return "without word maps: its denoiser sees image embeddings, and no words", ""
    if name.startswith("Kandinsky") and not name.startswith("Kandinsky3"):
        return (
            "without word maps: its denoiser attends to the embedding of an image that a prior made of the prompt",
            "",
        )
    raise LookupError(f"no test runs {name}, and no reason says why")


def editing_table(families: Mapping[str, str]) -> str:
    """The table. families: by name of their class, of the pipelines without an image that the tests run."""
    import diffusers

    from tests.pipelines_edit import EDITING, FROM_IMAGE

    built = {name: case.build() for name, case in (EDITING | FROM_IMAGE).items()}
    proven = dict(families) | {type(pipe).__name__: find_family(pipe)[0].name for pipe in built.values()}
    editing = {type(built[name]).__name__ for name in EDITING}
    rows: list[str] = []
    for name in sorted(dir(diffusers)):
        if not name.endswith("Pipeline") or not any(part in name for part in NAMES):
            continue
        pipeline: Any = getattr(diffusers, name, None)
        if any(part in name for part in OTHER_TASKS) or not inspect.isclass(pipeline):
            continue
        try:
            denoiser = denoiser_of(pipeline)
        except (TypeError, ValueError):  # a placeholder for an optional package that is not there
            denoiser = None
        state, family = state_of(name, proven)
        classes = "–" if denoiser is None else ", ".join(denoiser[1])
        rows.append(f"| {name} | {classes} | {state} | {'yes' if name in editing else ''} | {family} |")
    return HEAD + "\n".join(rows) + "\n"
