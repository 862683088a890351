"""The wire protocol: golden files that both languages read, the packed form, and the numbers in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffvis_widget.wire.packed_run import MAGIC, Message, dequantise, json_number, pack, quantise, unpack
from tests.golden import write

GOLDEN = Path(write.__file__).parent


@pytest.mark.parametrize("name", write.cases())
def test_golden_files_are_what_the_code_writes(name: str) -> None:
    data = (GOLDEN / f"{name}.bin").read_bytes()
    assert data == write.cases()[name], "the protocol changed: run python -m tests.golden.write and look at the diff"
    assert write.expected(data) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def test_every_golden_file_belongs_to_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.bin")} == set(write.cases())
    others = {"expectations"}  # of notes: tests/traces/test_expectations.py
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(write.cases()) | others


@pytest.mark.parametrize("name", [name for name in write.cases() if name.startswith("bad-")])
def test_damaged_bytes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="packed run"):
        unpack((GOLDEN / f"{name}.bin").read_bytes())


def test_no_cut_of_a_run_is_taken_for_a_run() -> None:
    data = write.cases()["text"]
    for length in range(len(data)):
        with pytest.raises(ValueError, match="packed run"):
            unpack(data[:length])


@pytest.mark.parametrize(
    "header",
    [
        b"7",
        b"{}",
        b'{"messages":{}}',
        b'{"messages":[7]}',
        b'{"messages":[{"content":[],"buffers":[]}]}',
        b'{"messages":[{"content":{},"buffers":{}}]}',
        b'{"messages":[{"content":{},"buffers":[true]}]}',
        b'{"messages":[{"content":{},"buffers":[1e3]}]}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_hostile_headers_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="packed run"):
        unpack(MAGIC + len(header).to_bytes(4, "little") + header)


def test_a_header_may_not_claim_more_than_is_there() -> None:
    with pytest.raises(ValueError, match="cut short"):
        unpack(MAGIC + b"\xff\xff\xff\xff" + b"{}")


def test_pack_and_unpack_keep_messages() -> None:
    messages = [Message({"type": "x", "text": "é\U0001f600\u202e"}, (b"", b"\0\1\2")), Message({"type": "y"})]
    assert unpack(pack(messages)) == messages


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_never_gets_into_the_bytes(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack([Message({"value": bad})])
    assert json_number(bad) is None


def test_maps_come_back_within_half_a_step_of_their_own_scale() -> None:
    rng = np.random.default_rng(0)
    maps = (rng.random((5, 7, 9)) * np.array([1, 1e-6, 0.5, 1e-3, 1])[:, None, None]).astype(np.float32)
    maps[4] = 0.25
    quantised, scales = quantise(maps)
    back = dequantise(quantised.tobytes(), maps.shape, scales)
    for plane, again, scale in zip(maps, back, scales, strict=True):
        assert scale is not None
        lo, hi = scale
        assert (lo, hi) == (plane.min(), plane.max())
        # half a quantum, and the rounding of float32 itself
        assert np.abs(again - plane).max() <= (hi - lo) / 510 + 1e-7 * hi


def test_a_word_without_a_map_has_no_scale() -> None:
    maps = np.ones((2, 3, 3), dtype=np.float32)
    maps[0] = np.nan
    quantised, scales = quantise(maps)
    assert scales == [None, [1.0, 1.0]]
    back = dequantise(quantised.tobytes(), maps.shape, scales)
    assert np.isnan(back[0]).all()
    assert (back[1] == 1).all()


def test_maps_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(words, h, w\)"):
        quantise(np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        dequantise(bytes(7), (2, 2, 2), [None, None])
