"""Videos: what is refused before it runs, what is stored, and how much memory that takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import diffvis_widget as dv
from diffvis_widget.tracer import attention_probabilities, default_keep
from diffvis_widget.traces import Layer
from tests import pipelines, tiny_parts
from tests.pipelines import stable_diffusion
from tests.pipelines_video import SIZE, ltx, wan
from tests.pipelines_video_frames import CALL, FRAMES, allegro, animatediff
from tests.tracer.reference import assert_stored, projections
from tests.tracer.test_concepts import shares_by_hand
from tests.tracer.test_transparency import snapshot

PROMPT = "a red circle"
SMALL: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 2}


class Frames(StableDiffusionPipeline):
    """Makes latents of several frames without an argument that says so."""

    def prepare_latents(self, *args: Any, **kwargs: Any) -> Any:
        return super().prepare_latents(*args, **kwargs)[:, :, None].repeat(1, 1, 3, 1, 1)


def frames() -> Any:
    return tiny_parts.quiet(Frames(**pipelines.stable_diffusion().components))


VIDEOS: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "Allegro": (allegro, {"num_frames": 7}, "AllegroPipeline makes a video of 7 frames.*first one too.*num_frames=1"),
    "Allegro by default": (allegro, {}, "AllegroPipeline makes a video of 16 frames.*num_frames=1"),
    "latents of several frames": (frames, {}, r"latents of shape \(1, 4, 3, \d+, \d+\) are those of a video"),
}


@pytest.fixture(params=VIDEOS)
def video(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any], str]:
    build, arguments, message = VIDEOS[request.param]
    pipe = build()
    denoiser = getattr(pipe, "transformer", None) or pipe.unet

    def refuse(*args: Any) -> None:
        raise AssertionError("the denoiser ran")

    denoiser.register_forward_pre_hook(refuse)
    return pipe, {**SMALL, **arguments}, message


@pytest.mark.filterwarnings("ignore:.*is traced without word maps")
def test_a_video_is_refused_before_it_runs(video: tuple[Any, dict[str, Any], str]) -> None:
    pipe, arguments, message = video
    before = snapshot(pipe)
    with pytest.raises(ValueError, match=message):
        dv.trace(pipe, PROMPT, seed=0, **arguments)
    tracer = dv.Tracer(pipe)
    with pytest.raises(ValueError, match=message), tracer:
        pipe(PROMPT, **arguments)
    assert tracer.traces == []
    assert snapshot(pipe) == before


def test_interventions_refuse_a_video() -> None:
    pipe = frames()
    with pytest.raises(ValueError, match="are those of a video"), dv.intervene.on(pipe, dv.intervene.drop("red")):
        pipe(PROMPT, **SMALL)


def test_explanations_refuse_a_video() -> None:
    pipe = wan()
    trace = dv.trace(pipe, PROMPT, seed=0, **SIZE, num_frames=5)
    with pytest.raises(ValueError, match="explanations work for images"):
        dv.denoiser(trace, 0)
    with pytest.raises(ValueError, match="explanations work for images"):
        dv.explain.df_rise(trace, 0)
    with pytest.raises(ValueError, match="explanations work for images"):
        dv.explain.relevance(pipe, PROMPT, num_frames=5)


@pytest.mark.filterwarnings("ignore:.*is traced without word maps")
def test_a_loop_of_ones_own_is_refused_where_it_draws_the_noise() -> None:
    pipe = allegro()
    with pytest.raises(ValueError, match="makes a video of 7 frames"), dv.Tracer(pipe):
        pipe.prepare_latents(1, 4, 7, 32, 32, torch.float32, torch.device("cpu"), None)


MODES: dict[str, tuple[Callable[[Any], object], str]] = {
    "FreeInit": (lambda pipe: pipe.enable_free_init(), "several times in one call: call disable_free_init()"),
    "FreeNoise": (lambda pipe: pipe.enable_free_noise(2, 1), "interpolates the text.*call disable_free_noise()"),
    "parts of the batch": (lambda pipe: pipe.enable_free_noise_split_inference(), "split into parts of the batch"),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_of_animatediff_with_another_loop_are_refused(mode: str) -> None:
    pipe = animatediff()
    enable, message = MODES[mode]
    enable(pipe)
    with pytest.raises(ValueError, match=message):
        dv.trace(pipe, PROMPT, seed=0, **CALL)
    with pytest.raises(ValueError, match=message), dv.intervene.on(pipe, dv.intervene.drop("red")):
        pipe(PROMPT, **CALL)


def test_motion_modules_are_no_attention_to_words() -> None:
    trace = dv.trace(animatediff(), PROMPT, seed=0, **CALL)
    assert not [layer.name for layer in trace.layers if "motion_modules" in layer.name]
    # those of Stable Diffusion without motion modules
    assert [layer.name for layer in trace.layers] == [
        layer.name for layer in dv.trace(stable_diffusion(), PROMPT, seed=0, num_inference_steps=1).layers
    ]


def test_words_outside_the_prompt_have_maps_in_each_frame() -> None:
    pipe = animatediff()
    with projections(pipe.unet) as seen:
        trace = dv.trace(pipe, PROMPT, seed=0, keep="heads", concepts=["sky"], **CALL)
    embeddings = pipe.encode_prompt("a sky", "cpu", 1, False)[0]
    word = next(index for index, word in enumerate(trace.words) if word.kind == "concept")
    for index, layer in enumerate(trace.layers):
        with torch.no_grad():
            keys = {"sky": pipe.unet.get_submodule(layer.name).to_k(embeddings)[0].double().numpy()}
        queries = seen[layer.name][0]["q"][-FRAMES:].double().numpy()  # the prompt's rows are the last ones
        for frame, query in enumerate(queries):
            shares = shares_by_hand(query, keys, {"sky": [2]}, layer.heads)[..., 0]
            stored = trace.records[0].maps[index][:, word, frame].reshape(layer.heads, -1)
            assert_stored(stored, shares, 1e-5)


def test_a_single_frame_of_a_video_model_is_an_image() -> None:
    for pipe, size in ((wan(), SIZE), (ltx(), SIZE), (animatediff(), CALL)):
        arguments: dict[str, Any] = {**size, "width": 64, "num_frames": 1}
        trace = dv.trace(pipe, PROMPT, seed=3, **arguments)
        plain = pipe(PROMPT, generator=torch.Generator().manual_seed(3), output_type="np", **arguments).frames
        assert trace.frame_count == 1
        assert trace.video is None
        assert trace.latents.ndim == 4
        assert trace.heat_map("circle").ndim == 2
        assert trace.heat_map("circle", frame="all").shape[0] == 1
        assert np.abs(np.round(plain[0, 0] * 255) - trace.image).max() <= 1


@pytest.mark.parametrize("frames", [True, False])
def test_a_file_holds_a_video(tmp_path: Path, frames: bool) -> None:
    pipe = wan()
    trace = dv.trace(pipe, PROMPT, seed=3, negative_prompt="blue", **SIZE, num_frames=9)
    opened = dv.open_trace(trace.save(tmp_path / "video.safetensors", frames=frames))
    assert opened.equals(trace)
    assert opened.frame_count == 3
    assert opened.video is not None
    assert trace.video is not None
    assert np.array_equal(opened.video, trace.video)
    np.testing.assert_array_equal(opened.heat_map("red", frame="all"), trace.heat_map("red", frame="all"))
    if frames:  # noise is stored with losses only beyond 128 pixels
        assert np.array_equal(opened.frames("prediction"), trace.frames("prediction"))
    comparison = dv.compare(opened, trace)
    assert comparison.distance.max() == 0
    assert np.nanmax(comparison.maps) == 0
    assert comparison.image_difference == 0
    assert comparison.map_difference(1, frame="all").shape == (3, 2, 3)


def test_two_videos_compare_frame_by_frame() -> None:
    pipe = wan()
    first, second = (dv.trace(pipe, PROMPT, seed=seed, **SIZE, num_frames=9) for seed in (1, 2))
    comparison = dv.compare(first, second)
    word = next(index for index, word in enumerate(first.words) if word.text == "red")
    index = next(index for index, pair in enumerate(comparison.words) if pair.a == word)
    parts = [trace.heat_maps(step=0, frame="all")[word] for trace in (first, second)]
    shares = [part / part.sum() for part in parts]
    assert comparison.maps[0, index] == pytest.approx(0.5 * np.abs(shares[0] - shares[1]).sum(), rel=1e-5)
    assert first.video is not None
    assert second.video is not None
    difference = np.abs(first.video.astype(float) - second.video).mean() / 255
    assert comparison.image_difference == pytest.approx(difference, rel=1e-4)


def test_what_is_kept_of_a_long_video_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = wan()
    arguments: dict[str, Any] = {**SIZE, "num_frames": 9}
    monkeypatch.setattr(default_keep, "MAX_MAPS", 500)
    estimate = dv.estimate(pipe, PROMPT, 2, height=32, width=48, max_sequence_length=24, num_frames=9)
    assert estimate.keep == "words"
    assert 'keep="words"' in str(estimate)
    with pytest.warns(UserWarning, match="the maps of 2 layers over 2 steps and 3 latent frames would take"):
        trace = dv.trace(pipe, PROMPT, seed=3, **arguments)
    assert trace.keep == "words"
    assert estimate.trace_bytes == pytest.approx(trace.nbytes + trace.frames("prediction").nbytes, rel=0.1)
    layered = dv.trace(pipe, PROMPT, seed=3, keep="layers", **arguments)
    assert layered.keep == "layers"
    np.testing.assert_allclose(trace.heat_map("red", frame="all"), layered.heat_map("red", frame="all"), atol=2**-11)


def test_a_default_run_of_49_frames_keeps_words() -> None:
    """Wan 2.1 1.3B at 480 x 832: 30 layers, 13 latent frames of 30 x 52 tokens, 50 steps, 20 words."""
    layers = [Layer(f"blocks.{index}.attn2", "cross", 12, (30, 52), True) for index in range(30)]
    assert default_keep.maps_nbytes(layers, 13, 20, 50) > 2**30 > default_keep.maps_nbytes(layers[:1], 13, 20, 50)
    with pytest.warns(UserWarning, match='keep="words"'):
        assert default_keep.default_keep(layers, 13, 20, 50) == "words"


def test_many_scores_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = wan()
    whole = dv.trace(pipe, PROMPT, seed=3, keep="heads", **SIZE, num_frames=9)
    monkeypatch.setattr(attention_probabilities, "_SCORES", 200)
    parts = dv.trace(pipe, PROMPT, seed=3, keep="heads", **SIZE, num_frames=9)
    assert np.array_equal(whole.latents, parts.latents)
    for before, after in zip(whole.records, parts.records, strict=True):
        for maps, other in zip(before.maps, after.maps, strict=True):
            np.testing.assert_allclose(maps.astype(float), other.astype(float), atol=2**-11)
