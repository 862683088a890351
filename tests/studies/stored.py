"""Makes the folder of a study without a model, for tests and benchmarks of what reads one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diffvis_widget.studies import manifest as manifests
from diffvis_widget.studies.columns import BASE, Kind
from diffvis_widget.studies.manifest import Manifest
from diffvis_widget.studies.parts import PartWriter
from diffvis_widget.studies.plan import Plan
from diffvis_widget.studies.prompts import read_prompts

COLUMNS: dict[str, Kind] = {"attention_mass": "curves", "brightness": "number", "sharpness": "curve"}
STEPS = 10


def store(
    folder: Path, prompts: int, seeds: int, conditions: Sequence[str] = ("uniform", "early"), failed: Sequence[int] = ()
) -> Any:
    """Write a study; the image of row n has the colour of n, brightness n, and its curves begin at n."""
    rows = read_prompts(
        [{"prompt": f"a red circle {n}", "category": ("odd", "even")[n % 2 == 0]} for n in range(prompts)]
    )
    plan = Plan(rows, range(seeds), {name: {"schedule": name} for name in conditions}, {})
    settings = manifests.settings_of(plan, "0" * 16, [], "none", 1)
    columns: dict[str, Kind] = {**BASE, "category": "text", **COLUMNS}
    about = {
        "model": None,
        "model_is_named": True,
        "measure_columns": {"made up": COLUMNS},
        "versions": {},
        "command": "",
        "date": "",
    }
    manifest = Manifest(settings, columns, about)
    folder.mkdir(parents=True)
    manifests.create(folder, manifest, plan)
    writer = PartWriter(folder, columns, manifest.study)
    for number in range(plan.total):
        writer.add(_row(plan, number, number in failed))
    writer.flush()
    return plan


def colour(row: int) -> tuple[int, int, int]:
    return 40 + row * 7 % 200, 40 + row * 13 % 200, 40 + row * 29 % 200


def _row(plan: Plan, number: int, is_failed: bool) -> dict[str, Any]:
    task = plan.task(number)
    values: dict[str, Any] = {
        "row": number, "id": f"{number:064x}", "prompt": task.entry.prompt, "seed": task.seed,
        "condition": task.condition, "fingerprint": "0" * 16, "seconds": 1.0, **task.entry.columns,
    }  # fmt: skip
    if is_failed:
        return values | {"error": "ValueError: no memory"}
    buffer = io.BytesIO()
    Image.new("RGB", (96, 96), colour(number)).save(buffer, "WEBP")
    curve = number + np.arange(STEPS) / 100
    return values | {
        "words": ["red", "circle"], "roles": [None, None], "thumbnail": buffer.getvalue(),
        "attention_mass": [curve, curve + 1], "brightness": float(number), "sharpness": curve,
    }  # fmt: skip
