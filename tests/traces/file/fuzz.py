"""Hostile trace files by the thousand, `python -m tests.traces.file.fuzz 10000`: each opens or is refused, in bounds.

A case changes bytes of a real file, or fields of its header, or sizes; then everything in what opens is read. Whatever
else than a trace or an error comes out, a second spent, or more memory than stated, ends it with the case's number.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diffvis_widget.files import open_trace
from diffvis_widget.traces import TraceFileError
from diffvis_widget.wire.packed_run import MAGIC
from tests.traces.results.test_stored_results import with_results

MEMORY = 400 * 2**20  # over what the process had before: the stated 128 MB and one image of the largest size
SECONDS = 20.0  # of the processor; a hang, not a slow machine
VALUES: list[Any] = [
    None, True, -1, 0, 1, 2, 7, 2**31, 2**63, 10**400, 0.5, 1e308, "", "red", "\ud800", "prediction", [], [1], [[]],
    [0, 0], [2**31, 2**31], {}, {"a": 1}, [None] * 50, "x" * 5000, [2**20, 2**20], [4096, 4096], [16383, 16383],
]  # fmt: skip


def seeds(folder: Path) -> list[bytes]:
    """Files of both forms, as they are written."""
    trace = with_results(negative=True)
    whole = trace.save(folder / "whole").read_bytes()
    return [whole, with_results(keep="heads").save(folder / "heads").read_bytes(),
            trace.save(folder / "compact", compact=True).read_bytes()]  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A hostile file made of a good file."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [_bytes, _bytes, _cut, _header, _header, _header]
    return rng.choice(ways)(data, rng)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    near = rng.random() < 0.5  # headers are where it hurts
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        at = rng.randrange(min(len(data), 6000) if near else len(data))
        changed[at] = rng.choice([0, 1, 0x7F, 0xFF, rng.randrange(256), changed[at] ^ 1 << rng.randrange(8)])
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data[:a], data[a:], data[:a] + data[b:], data[:b] + data[a:], data + data[a:b]])


def _header(data: bytes, rng: random.Random) -> bytes:
    """Some values of the header are others, and its length is right: only reading it field by field finds that."""
    if data[:4] == MAGIC:
        begin, (length,) = 8, struct.unpack_from("<I", data, 4)
    else:
        begin, (length,) = 8, struct.unpack_from("<Q", data, 0)
    header = json.loads(data[begin : begin + length])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        _change(header, rng)
    text = json.dumps(header).encode()
    packed = MAGIC + struct.pack("<I", len(text)) if begin == 8 and data[:4] == MAGIC else None
    return (packed or struct.pack("<Q", len(text))) + text + data[begin + length :]


def _change(document: Any, rng: random.Random) -> None:
    """Walk down at random and put something else there; texts that are JSON themselves are walked into too."""
    target = document
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        if not keys:
            return
        key = rng.choice(keys)
        value = target[key]
        if isinstance(value, str) and value.startswith("{"):
            inner = json.loads(value)
            _change(inner, rng)
            target[key] = json.dumps(inner)
            return
        if isinstance(value, dict | list) and value and rng.random() < 0.85:
            target = value
            continue
        act = rng.random()
        if act < 0.15:
            target.pop(key)
        elif isinstance(value, int) and not isinstance(value, bool) and act < 0.5:
            target[key] = value + rng.choice([-1, 1, 8, 4096, -value, 2**20])
        elif isinstance(target, list) and act < 0.6:
            target.append(copy.deepcopy(value))
        else:
            target[key] = copy.deepcopy(rng.choice(VALUES))
        return


def read_everything(path: Path) -> bool:
    """Open a file and read all that is in it. Whether it opened."""
    try:
        trace = open_trace(path)
        repr(trace)
        _ = trace.steps, trace.timesteps, trace.guidance, trace.reused, trace.notes, trace.is_complete, trace.image
        for kind in ("prediction", "latents", "guidance"):
            if trace.has_frames(kind):
                trace.frames(kind)
        if trace.layers:
            trace.heat_maps(step=0)
        if trace.negative is not None and trace.layers:
            trace.negative.heat_maps(step=-1)
        if not trace.is_compact:
            _ = trace.latents, trace.visible_latents, trace.predictions
        for saliency in trace.saliency:
            _ = saliency.scaled if saliency.map.size else None
        for relevance in trace.relevance:
            _ = relevance.scaled(trace.words), None if relevance.maps is None else relevance.maps.sum()
    except TraceFileError:
        return False
    return True


def run(count: int, start: int = 0) -> tuple[int, int]:
    """Try so many cases; how many opened, and how many were refused. Raises what a case must not do."""
    opened = 0
    with tempfile.TemporaryDirectory() as name, np.errstate(all="ignore"), _bounded():
        folder = Path(name)
        files = seeds(folder)
        path = folder / "case"
        for case in range(start, start + count):
            rng = random.Random(case)
            path.write_bytes(mutated(rng.choice(files), rng))
            began = time.process_time()
            try:
                opened += read_everything(path)
            except BaseException:
                print(f"case {case}", file=sys.stderr)
                raise
            assert time.process_time() - began < SECONDS, f"case {case} hangs"
    return opened, count - opened


@contextlib.contextmanager
def _bounded() -> Any:
    """No more address space than the process has now and MEMORY: what wants more gets a MemoryError."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    opened, refused = run(count, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(f"{count} cases: {opened} opened, {refused} refused, none did anything else")


if __name__ == "__main__":
    main()
