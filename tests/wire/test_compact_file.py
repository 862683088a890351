"""A compact file: the same run to look at, within its bar, and honest about what is not in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffvis_widget.files import open_trace
from diffvis_widget.traces import Layer, Record, Step, Trace, TraceFileError, Word, WordRelevance
from diffvis_widget.wire.compact_file import LIMIT
from diffvis_widget.wire.packed_run import pack, unpack
from tests.traces.build import make_trace


def test_what_is_seen_comes_back(tmp_path: Path) -> None:
    trace = make_trace(negative=True)
    path = trace.save(tmp_path / "run.diffvis", compact=True)
    back = open_trace(path)
    assert (back.prompt, back.negative_prompt, back.keep) == (trace.prompt, trace.negative_prompt, "words")
    assert (back.words, back.layers, back.steps, back.meta) == (trace.words, trace.layers, trace.steps, trace.meta)
    np.testing.assert_array_equal(back.image, trace.image)
    for kind in ("prediction", "latents"):  # so small that every pixel is fits
        np.testing.assert_array_equal(back.frames(kind), trace.frames(kind))
    for step in range(3):
        maps, whole = back.heat_maps(step=step), trace.heat_maps(step=step)
        assert np.nanmax(np.abs(maps - whole)) < 1 / 500 + 2**-11
        np.testing.assert_array_equal(np.isnan(maps), np.isnan(whole))
    assert back.guidance is not None
    assert trace.guidance is not None
    assert np.abs(back.guidance - trace.guidance).max() < 1 / 500


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    back = open_trace(make_trace().save(tmp_path / "run", compact=True))
    assert back.is_compact
    for name in ("latents", "predictions", "visible_latents"):
        with pytest.raises(ValueError, match=r"opened from a compact file, which has none"):
            getattr(back, name)
    with pytest.raises(ValueError, match='kept with keep="layers"'):
        back.heat_map("red", layer=0)
    with pytest.raises(ValueError, match="save it with compact=True"):
        back.save(tmp_path / "whole")
    back.save(tmp_path / "again", compact=True)
    np.testing.assert_array_equal(open_trace(tmp_path / "again").image, back.image)


def test_a_run_without_word_maps_and_guidance(tmp_path: Path) -> None:
    back = open_trace(make_trace(layers=[], guidance=False).save(tmp_path / "run", compact=True))
    assert back.guidance is None
    assert back.frames("prediction").shape == (3, 8, 12, 3)
    with pytest.raises(ValueError, match="no attention to words"):
        back.heat_map("red")


def large(steps: int = 30) -> Trace:
    """As Stable Diffusion leaves it: 512 x 512 pixels, latents 64 x 64 in half precision, 16 layers, 12 words."""
    rng = np.random.default_rng(5)
    grids = [64] * 5 + [32] * 5 + [16] * 5 + [8]
    layers = [Layer(f"layer.{i}", "cross", 8, (grid, grid), grid == 16) for i, grid in enumerate(grids)]
    y, x = np.mgrid[0:512, 0:512] / 512

    def decode(latents: np.ndarray) -> np.ndarray:
        frames: list[np.ndarray] = []
        for latent in latents:
            level = float(np.abs(latent[0]).mean())  # how noisy it is
            soft = np.stack([np.sin(9 * x + 5 * y), np.cos(7 * y), np.sin(8 * x * y)], axis=-1) * 90 + 128
            frames.append(np.clip(soft + rng.normal(0, 60 * level, soft.shape), 0, 255).astype(np.uint8))
        return np.stack(frames)

    words = [Word(f"word{i}", (i,), "word") for i in range(12)]
    trace = Trace(
        prompt=" ".join(word.text for word in words), negative_prompt=None, words=words, layers=layers, keep="layers",
        meta={"seed": 7, "planned_steps": steps}, decoder=decode,
    )  # fmt: skip
    noise = rng.standard_normal((steps + 1, 4, 64, 64)).astype(np.float16)
    for index in range(steps):
        part = np.float16(1 - index / steps)
        trace.append(
            Record(
                Step(index, 999.0 - 33 * index, 14.0 / (index + 1)), noise[index] * part, noise[index + 1] * part,
                noise[index] * np.float16(0.06), rng.random((64, 64)).astype(np.float32), 1.0,
                tuple((rng.random((1, 12, grid, grid)) * 0.1).astype(np.float16) for grid in grids),
            )
        )  # fmt: skip
    return trace


def test_files_of_a_512_pixel_run_stay_within_their_bars(tmp_path: Path) -> None:
    trace = large(10)  # a third of the steps, so a third of what is there for each
    whole = trace.save(tmp_path / "whole")
    assert whole.stat().st_size < 40_000_000 / 3
    assert open_trace(whole).latents.tobytes() == trace.latents.tobytes()
    compact = trace.save(tmp_path / "compact", compact=True)
    assert compact.stat().st_size < LIMIT
    assert open_trace(compact).frames("prediction").shape == (10, 512, 512, 3)


def test_a_packed_run_of_the_page_is_no_trace(tmp_path: Path) -> None:
    packed = pack(unpack(make_trace().save(tmp_path / "run", compact=True).read_bytes())[1:])
    (tmp_path / "page").write_bytes(packed)
    with pytest.raises(TraceFileError, match="holds a packed run, but no trace"):
        open_trace(tmp_path / "page")


def test_maps_of_relevance_give_way_to_what_the_page_shows(tmp_path: Path) -> None:
    trace = large(4)
    alone = open_trace(trace.save(tmp_path / "alone", compact=True))
    rng = np.random.default_rng(1)
    raw = rng.random((4, 12)).astype(np.float32)
    for side, fits in ((8, True), (128, False)):
        maps = rng.random((4, 12, side, side)).astype(np.float32)
        trace.relevance[:] = [WordRelevance("uniform", trace.timesteps, raw, maps)]
        path = trace.save(tmp_path / "run", compact=True)
        back = open_trace(path)
        assert path.stat().st_size < LIMIT
        assert (back.relevance[0].maps is not None) is fits
        np.testing.assert_array_equal(back.relevance[0].raw, raw)
        np.testing.assert_array_equal(back.frames("latents"), alone.frames("latents"))
    assert open_trace(trace.save(tmp_path / "whole")).relevance[0].maps is not None
