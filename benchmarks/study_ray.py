"""A study on Ray beside the same one in this process: `python -m benchmarks.study_ray`; some minutes on idle cores.

Each runs 40 rows of 10 steps with scores and attention: locally, on Ray with two actors on this machine, and on two
nodes of one core each (`ray.cluster_utils.Cluster`). The tables must be equal to the bit, but for the seconds and the
node that made a row. The times of Ray include what it starts, and loading the model in each actor.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import diffvis_widget as dv
from benchmarks.killed_study import same
from diffvis_widget.studies.ray_executor import PATIENCE

PROMPTS = [
    "a red circle above a blue square",
    "a green star on grass",
    "a striped yellow house",
    "a pink flower at night",
]
STEPS = 10


def node(trace: dv.Trace) -> dict[str, str]:
    """A measure: the node of Ray that the row was made on, or "" without Ray."""
    ray: Any = sys.modules.get("ray")
    return {"node": ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=40)
    chosen = parser.parse_args()
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as folder:
        local = timed("local", Path(folder, "local"), chosen.rows)
        alone = timed(
            "ray, two actors", Path(folder, "ray"), chosen.rows, executor="ray", executor_options={"actors": 2}
        )
        check(local, alone)
        two_nodes(local, Path(folder, "nodes"), chosen.rows)


def two_nodes(local: Any, folder: Path, rows: int) -> None:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address)
    try:
        table = timed("ray, two nodes", folder, rows, executor="ray", executor_options={"actors": 2})
    finally:
        ray.shutdown()
        cluster.shutdown()
    check(local, table)


def timed(name: str, folder: Path, rows: int, **arguments: Any) -> Any:
    began = time.perf_counter()
    study = dv.study(
        None,
        PROMPTS,
        seeds=rows // len(PROMPTS),
        measures={"scores": {}, "attention": {}, "node": "benchmarks.study_ray:node"},
        out=folder,
        threads=1,
        progress=False,
        num_inference_steps=STEPS,
        **arguments,
    )
    assert study.is_complete
    assert not study.failed
    print(f"{name}: {rows} rows in {time.perf_counter() - began:.1f} s", flush=True)
    return study.table()


def check(local: Any, other: Any) -> None:
    is_equal = same(local.drop(["seconds", "node"]), other.drop(["seconds", "node"]))
    nodes = other.column("node").value_counts().to_pylist()
    print(f"  equal to the local table: {is_equal}; rows by node: {[count['counts'] for count in nodes]}", flush=True)


if __name__ == "__main__":
    main()
