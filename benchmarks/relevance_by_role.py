"""Which roles of words the scenes model attends to, as a study: `python -m benchmarks.relevance_by_role`; hours.

Measured are the relevance of every word of held-out captions (two objects, a relation, a setting) under uniform, early
and late sampling, and when the coarse and the fine component of the image settle: two findings of the paper, tested on
the scenes world. An interrupted study resumes; the tables become part of benchmarks/explain/README.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import diffvis_widget as dv
from diffvis_widget.explain.evaluation import report
from diffvis_widget.explain.evaluation.json_lines import FOLDER, Line, append
from diffvis_widget.explain.evaluation.roles import (
    CAPTIONS,
    ROLES,
    SCHEDULES,
    STEPS,
    STRENGTH,
    captions,
    halves,
    roles_of,
)


def settled(trace: dv.Trace) -> dict[str, Any]:
    """A measure: how much of the last prediction's coarse and fine component each step's prediction has."""
    return halves(trace)


def study_of(count: int, out: Path) -> dv.Study:
    scenes = captions(count)
    prompts = [{"prompt": scene.caption, "seed": seed, "roles": roles_of(scene)} for seed, scene in enumerate(scenes)]
    return dv.study(
        None,
        prompts,
        measures={"relevance": {}, "settled": settled},
        conditions=list(SCHEDULES),
        out=out,
        num_inference_steps=STEPS,
        schedule_strength=STRENGTH,
    )


def lines_of(study: dv.Study) -> list[Line]:
    """For each caption, by scheme and role the mean relevance of the role's words, and how its uniform run settled."""
    lines: dict[int, Line] = {}
    for row in study.table().to_pylist():
        line = lines.setdefault(
            row["seed"], {"seed": row["seed"], "model": row["fingerprint"], "caption": row["prompt"]}
        )
        scaled, roles = np.array(row["relevance_scaled"], np.float32), np.array(row["roles"], dtype=object)
        curves = {role: scaled[roles == role].mean(axis=0) for role in ROLES if (roles == role).any()}
        rounded = {role: np.round(curve, 3).tolist() for role, curve in curves.items()}
        line.setdefault("curves", {})[row["condition"]] = rounded
        if row["condition"] == "uniform":
            line["settled"] = {name: np.round(row[name], 3).tolist() for name in ("coarse", "fine")}
    return list(lines.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--captions", type=int, default=CAPTIONS)
    parser.add_argument("--study", type=Path, default=Path(tempfile.gettempdir()) / "diffvis-roles")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the measurements and the tables")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lines = lines_of(study_of(chosen.captions, chosen.study))
    path = chosen.folder / "roles.jsonl"
    path.unlink(missing_ok=True)
    for line in lines:
        append(path, line)
    print("\n".join(report.roles(chosen.folder)))
    report.write(chosen.folder)


if __name__ == "__main__":
    main()
