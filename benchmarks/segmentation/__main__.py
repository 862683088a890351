"""Zero-shot segmentation by heat maps: `python -m benchmarks.segmentation --data FOLDER --model sdxl | sd3.5 | flux`.

The protocol of ConceptAttention (A. Helbling et al., ICML 2025, arXiv 2502.04320): each image is noised to half way and
evaluated once, with its classes and a few background words as concepts; their maps segment it. FOLDER has the layout of
Pascal VOC; docs/pages/trust.md says how to bring ImageNet-Segmentation into it. `--model scenes` needs neither weights
nor data: it segments renderings whose masks are known. Measurements are appended to MODEL.jsonl in the folder of
results, an interrupted run resumes there, and the tables are printed and written to MODEL.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffvis_widget as dv
from diffvis_widget.explain.evaluation.json_lines import Line, append, resume
from diffvis_widget.scenes.world import SETTINGS
from diffvis_widget.tracer import fingerprint

from .measure import Settings, maps_of, measure
from .tables import tables
from .voc import DataError, VocFolder, write_renderings

LEVEL = 500
BACKGROUND = ("background", "floor", "grass", "tree", "sky")


@dataclass(frozen=True)
class Model:
    """A model that can be measured.

    Attributes:
        weights: Name on the Hugging Face hub; None for the built-in model.
        size: Pixels of a side.
        background: Concepts that stand for the background.
    """

    weights: str | None
    size: int
    background: tuple[str, ...] = BACKGROUND


MODELS = {
    "sdxl": Model("stabilityai/stable-diffusion-xl-base-1.0", 1024),
    "sd3.5": Model("stabilityai/stable-diffusion-3.5-large-turbo", 1024),
    "flux": Model("black-forest-labs/FLUX.1-schnell", 1024),
    "scenes": Model(None, 96, tuple(SETTINGS)),
}


def evaluate(pipe: Any, folder: VocFolder, settings: Settings, path: Path, most: int | None = None) -> list[Line]:
    """Measure the images that are not measured yet.

    Args:
        pipe: The pipeline.
        folder: The images.
        settings: How to trace them.
        path: File of the measurements.
        most: Number of images; None for all.

    Returns:
        The measurements of all images.

    Raises:
        ValueError: The file was measured with other weights or settings, or an image cannot be read.
    """
    family_attribute = "unet" if hasattr(pipe, "unet") else "transformer"
    model, how = fingerprint(getattr(pipe, family_attribute)), _plain(asdict(settings))
    lines = resume(path, model)
    if lines and lines[0]["settings"] != how:
        raise DataError(f"{path} was measured with other settings ({lines[0]['settings']}): move it away first")
    done = {line["image"] for line in lines}
    names = folder.names[:most]
    for number, name in enumerate(names, start=1):
        if name in done:
            continue
        began = time.monotonic()
        sample = folder.read(name)
        if not sample.classes:
            raise DataError(f"{name}: its mask holds no class, only background; leave it out of the split")
        line = {"image": name, "model": model, "settings": how, **measure(sample, maps_of(pipe, sample, settings))}
        append(path, line)
        lines.append(line)
        print(f"segmentation: {name}, {number} of {len(names)}, {time.monotonic() - began:.1f} s", flush=True)
    wanted = set(names)
    return [line for line in lines if line["image"] in wanted]


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def load(name: str, weights: str | None) -> Any:
    """Load a model, on the GPU in half precision where there is one.

    Args:
        name: Key of MODELS.
        weights: Name or folder in place of the model's own; None for these.

    Returns:
        The pipeline.
    """
    import torch

    source = weights or MODELS[name].weights
    if source is None:
        return dv.load()
    if not torch.cuda.is_available():
        return dv.load(source)
    return dv.load(source, torch_dtype=torch.bfloat16).to("cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print and write the tables.

    Args:
        arguments: Arguments of the command line; None for the process's own.

    Returns:
        The exit status: 0, or 2 for an input that cannot be used.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segmentation", description=__doc__)
    parser.add_argument("--model", required=True, choices=MODELS, help="which model")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="images with masks; scenes makes its own")
    parser.add_argument("--split", default="val", help="list of ImageSets/Segmentation (val)", metavar="NAME")
    parser.add_argument("--weights", help="a name on the hub, or a folder, in place of the model's own")
    parser.add_argument("--levels", type=int, nargs="+", default=[LEVEL], metavar="T", help=f"timesteps ({LEVEL})")
    parser.add_argument("--size", type=int, help="pixels of a side (1024; scenes 96)", metavar="PIXELS")
    parser.add_argument("--background", nargs="+", help="concepts that stand for the background", metavar="WORD")
    parser.add_argument("--images", type=int, help="only the first N images", metavar="N")
    parser.add_argument("--out", type=Path, default=Path("segmentation"), help="folder of results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    model = MODELS[options.model]
    settings = Settings(
        tuple(options.levels), options.size or model.size, tuple(options.background or model.background)
    )
    if options.images is not None and options.images < 1:
        parser.error(f"--images must be 1 or more, not {options.images}")
    if options.data is None and options.model != "scenes":
        parser.error("--data FOLDER is needed: images with masks in the layout of Pascal VOC")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            data = options.data or write_renderings(Path(scratch), options.images or 200)
            folder = VocFolder(data, options.split)
            path = options.out / f"{options.model}.jsonl"
            lines = evaluate(load(options.model, options.weights), folder, settings, path, options.images)
    except (ValueError, OSError) as error:
        print(f"segmentation: {error}", file=sys.stderr)
        return 2
    levels = ", ".join(map(str, settings.levels))
    head = [
        f"{options.model}: noised to timestep {levels}; {settings.size} x {settings.size} pixels; background: "
        f"{', '.join(settings.background)}",
        "",
    ]
    text = "\n".join([*head, *tables(lines, published=options.model != "scenes")]).rstrip() + "\n"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
