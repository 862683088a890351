"""A video as messages, as a compact file, as films and as scores: every frame has its own image and its own maps."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import diffvis_widget as dv
from diffvis_widget.export.video import find_ffmpeg
from diffvis_widget.wire.packed_run import pack, unpack
from diffvis_widget.wire.recorded_run import record
from diffvis_widget.wire.shrink import fit, snapshot
from diffvis_widget.wire.video_messages import image_buffers, read_maps, shown_frames
from tests.moving_video import FACTOR, moving_video
from tests.traces.build import make_trace

FRAMES = 7
SECONDS = FACTOR * (FRAMES - 1) + 1  # frames of the video


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def frames_of(image: Any) -> int:
    return image.n_frames


def test_each_frame_has_its_image_and_its_maps() -> None:
    trace = moving_video()
    messages = unpack(pack(record(trace).payload.messages()))
    begin, *steps, end = messages
    assert (begin.content["frames"], begin.content["frames_per_latent"]) == (FRAMES, FACTOR)
    assert trace.video is not None
    for index, step in enumerate(steps):
        assert step.content["frames"] == FRAMES
        for view in ("prediction", "latents"):
            shown = shown_frames(trace, trace.frame(view, index))
            for frame, data in zip(shown, step.buffers[image_buffers(step.content, view)], strict=True):
                difference = np.abs(pixels(data).astype(int) - frame) if pixels(data).shape == frame.shape else None
                assert difference is None or difference.mean() < 12  # beyond 128 pixels with losses
        maps = step.content["maps"]
        read = read_maps(step.buffers[-1], FRAMES, maps["shape"], maps["scales"])
        expected = trace.heat_maps(step=index, frame="all")
        for word, (low, high) in enumerate(maps["scales"]):
            np.testing.assert_allclose(read[word], expected[word], atol=(high - low) / 509)
    assert np.array_equal(pixels(end.buffers[0]), trace.image)
    assert len(end.buffers) == 1 + SECONDS
    assert np.abs(pixels(end.buffers[-1]).astype(int) - trace.video[-1]).mean() < 12


def test_the_images_of_latent_frames_are_the_middle_ones_of_theirs() -> None:
    trace = moving_video()
    video = trace.video
    assert video is not None
    shown = shown_frames(trace, video)
    assert np.array_equal(shown[0], video[0])
    for frame in range(1, FRAMES):
        theirs = trace.output_frames(frame)
        assert np.array_equal(shown[frame], video[theirs[len(theirs) // 2]])


def test_a_video_shrinks_into_a_saved_notebook() -> None:
    messages = record(moving_video(steps=12)).payload.messages()
    whole = len(pack(messages))
    limits = [round(whole * share) for share in (0.9, 0.6, 0.4)]
    for limit in limits:
        packed = snapshot(messages, limit)
        assert 0 < len(packed) < limit
        step = unpack(packed)[1]
        shape = step.content["maps"]["shape"]
        assert len(step.buffers) == FRAMES * len(step.content["views"]) + 1
        assert read_maps(step.buffers[-1], FRAMES, shape, step.content["maps"]["scales"]).shape[1] == FRAMES
    assert fit(messages, lambda smaller: False) is None


def test_a_compact_file_holds_a_video(tmp_path: Path) -> None:
    trace = moving_video()
    opened = dv.open_trace(trace.save(tmp_path / "video.dvr", compact=True))
    assert opened.frame_count == FRAMES
    assert opened.video is not None
    assert trace.video is not None
    assert opened.video.shape == trace.video.shape
    assert np.abs(opened.video.astype(int) - trace.video).mean() < 12
    np.testing.assert_allclose(opened.heat_maps(frame="all"), trace.heat_maps(frame="all"), atol=2e-3)
    assert opened.guidance is not None
    assert opened.guidance.shape == (6, FRAMES, 12, 20)
    assert opened.frames("prediction").shape[:2] == (6, FRAMES)
    again = dv.open_trace(opened.save(tmp_path / "again.dvr", compact=True))
    assert np.array_equal(again.heat_maps(frame="all"), opened.heat_maps(frame="all"))


def test_a_film_shows_each_frame_with_its_maps(tmp_path: Path) -> None:
    trace = moving_video()
    plain, film = (Image.open(io.BytesIO(dv.export.webp(trace, size=160, words=words))) for words in ((), "ball"))
    assert frames_of(film) == frames_of(plain) == SECONDS
    columns: list[float] = []
    for frame in range(0, SECONDS, FACTOR):
        plain.seek(frame)
        film.seek(frame)
        change = np.abs(np.asarray(film.convert("RGB"), float) - np.asarray(plain.convert("RGB"), float)).sum(
            axis=(0, 2)
        )
        columns.append(float((change * np.arange(160)).sum() / change.sum() / 160))
    assert columns == sorted(columns)  # the heat map follows the ball from left to right
    assert columns[0] < 0.3 < 0.7 < columns[-1]
    assert frames_of(Image.open(io.BytesIO(dv.export.gif(trace, over="steps", frame=3, words="ball")))) == 6
    assert frames_of(Image.open(io.BytesIO(dv.export.gif(trace, step=2, view="guidance")))) == FRAMES
    first, last = (dv.export.png(trace, step=5, words="ball", frame=frame) for frame in (0, 6))
    assert first != last
    with pytest.raises(ValueError, match="this trace is of an image"):
        dv.export.gif(make_trace(), over="frames")
    with pytest.raises(ValueError, match="over the steps there is none to choose"):
        dv.export.gif(trace, over="steps", step=2)
    with pytest.raises(IndexError, match="latent frames 0 to 6"):
        dv.export.png(trace, step=2, frame=7)
    if find_ffmpeg() is not None:
        assert dv.export.mp4(trace, tmp_path / "film.mp4", words="ball")[4:8] == b"ftyp"


def test_scores_of_a_video_are_those_of_its_frames(tmp_path: Path) -> None:
    trace, meter = moving_video(steps=2), dv.ConceptMeter()
    scores = dv.concept_scores(trace, ["ball", "sky"], meter=meter)
    assert scores.by_frame is not None
    assert scores.by_frame.shape == (2, FRAMES, 2)
    for step in range(2):
        cosines, _ = meter.scores(shown_frames(trace, trace.frame("prediction", step)), ["ball", "sky"])
        np.testing.assert_array_equal(scores.by_frame[step], cosines)
    np.testing.assert_allclose(scores.cosine, scores.by_frame.mean(axis=1), rtol=1e-6)
    opened = dv.open_trace(trace.save(tmp_path / "video.safetensors", frames=False))
    assert opened.scores == scores


def test_a_page_shows_a_video_in_a_few_megabytes(tmp_path: Path) -> None:
    page = dv.to_html(moving_video(), tmp_path / "page.html")
    assert page.stat().st_size < 3_000_000
