"""Concept scores: cosines against open_clip itself, emergence against its definition, bad input."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from diffvis_widget import scenes
from diffvis_widget.concepts import ConceptMeter, default_meter, emergence
from diffvis_widget.concepts import meter as meter_module
from diffvis_widget.concepts.image_encoder import folded
from diffvis_widget.concepts.meter import UNRELATED, check_concepts


@pytest.fixture(scope="module")
def meter() -> ConceptMeter:
    return ConceptMeter()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([scenes.draw(seed).image for seed in range(3)])


def test_cosines_and_null_band_are_those_of_open_clip(meter: ConceptMeter, frames: np.ndarray):
    name = f"local-dir:{scenes.clip_folder()}"
    model: Any
    model, _, preprocess = cast(Any, open_clip.create_model_and_transforms(name))
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        image = model.eval().encode_image(torch.stack([preprocess(Image.fromarray(f)) for f in frames]), normalize=True)
        text = model.encode_text(tokenizer(["circle", "red", *UNRELATED]), normalize=True)
    reference = (image @ text.T).numpy()
    cosine, null = meter.scores(frames, ["circle", "red"])
    assert cosine.shape == (3, 2)
    np.testing.assert_allclose(cosine, reference[:, :2], atol=1e-5)
    np.testing.assert_allclose(null, np.percentile(reference[:, 2:], (5, 95), axis=1).T, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 33])
def test_the_meters_encoder_is_that_of_open_clip_within_the_rounding_of_float32(meter: ConceptMeter, count: int):
    frames = np.random.default_rng(count).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
    frames[0] = scenes.draw(count).image
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        features = meter.network.encode_image(images, normalize=True).numpy()
    np.testing.assert_allclose(meter.image_features(frames), features, atol=2e-6)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in meter.network.modules())  # it is left as it was


@pytest.mark.parametrize("size", [(96, 96), (64, 96), (40, 40), (192, 96)])
def test_images_are_prepared_as_open_clip_prepares_them(meter: ConceptMeter, size: tuple[int, int]):
    frames = np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    preprocess: Any = open_clip.create_model_and_transforms(f"local-dir:{scenes.clip_folder()}")[2]
    reference = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
    assert torch.equal(meter._prepare(frames), reference)


def test_a_batch_norm_without_a_convolution_is_refused():
    network = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="no convolution precedes"):
        folded(network.eval())


def test_share_is_the_softmax_with_the_models_scale(meter: ConceptMeter):
    cosine = np.array([[0.3, 0.1, -0.2]], dtype=np.float32)
    weights = np.exp(meter.logit_scale * cosine[0].astype(float))
    np.testing.assert_allclose(meter.share(cosine)[0], weights / weights.sum(), rtol=1e-5)


def test_no_frames_and_no_concepts_give_empty_tables(meter: ConceptMeter, frames: np.ndarray):
    assert [part.shape for part in meter.scores(frames, [])] == [(3, 0), (3, 2)]
    assert [part.shape for part in meter.scores(frames[:0], ["red"])] == [(0, 1), (0, 2)]


def test_emergence_is_the_last_crossing_of_the_midpoint():
    curves = np.array(
        [
            [0.0, 0.3, 0.0, 0.5],  # flat; crosses early; crosses twice; falls
            [0.0, 0.5, 0.6, 0.4],
            [0.0, 0.6, 0.1, 0.3],
            [0.0, 0.7, 0.8, 0.1],
        ],
        dtype=np.float32,
    )
    null = np.tile(np.array([[0.0, 0.2]], dtype=np.float32), (4, 1))
    result = emergence(curves, null)
    assert np.isnan(result[[0, 3]]).all()
    assert result[1:3].tolist() == [2.0, 3.0]


def test_a_concept_within_the_null_band_never_emerges():
    curve = np.linspace(0, 0.1, 5, dtype=np.float32)[:, None]
    assert np.isnan(emergence(curve, np.tile(np.array([[0.0, 0.2]], np.float32), (5, 1)))).all()


def test_only_what_is_clearly_present_at_the_end_emerges():
    last = np.array([0.5, 0.36, 0.34, 0.1], dtype=np.float32)
    curves = np.stack([0 * last, 0.6 * last + 0.2, last])
    null = np.tile(np.array([[0.0, 0.2]], dtype=np.float32), (3, 1))
    assert np.isfinite(emergence(curves, null)).tolist() == [True, True, False, False]  # 0.35 is half of 0.5 above 0.2
    assert np.isfinite(emergence(curves[:, 2:], null)).tolist() == [True, False], "the highest of the set may be weak"


def test_no_concepts_and_no_steps_have_no_emergence():
    assert emergence(np.zeros((3, 0), np.float32), np.zeros((3, 2), np.float32)).shape == (0,)
    assert np.isnan(emergence(np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))).all()


@pytest.mark.parametrize(
    ("concepts", "message"),
    [
        ("circle", r"write \['circle'\]"),
        (["circle", " "], "got ' '"),
        ([3], "got 3"),
        ([f"word{i}" for i in range(500)], "500 words; at most 256"),
    ],
)
def test_concepts_that_are_no_words_are_refused(concepts: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        check_concepts(concepts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "ViT-B32"}, "did you mean ViT-B-32"),
        ({"name": "ViT-B-32"}, "needs pretrained="),
        ({"pretrained": "openai"}, "needs a name"),
        ({"template": "a picture"}, "one placeholder for the concept"),
    ],
)
def test_a_meter_that_cannot_be_made_says_why(arguments: dict[str, str], message: str):
    with pytest.raises(ValueError, match=message):
        ConceptMeter(**arguments)


def test_frames_of_another_type_are_refused(meter: ConceptMeter, frames: np.ndarray):
    with pytest.raises(ValueError, match=r"frames must be uint8 \(T, H, W, 3\), not float64"):
        meter.scores(cast(Any, frames / 255.0), ["circle"])


def test_threads_share_a_default_meter_that_is_built_once(monkeypatch: pytest.MonkeyPatch):
    built: list[object] = []
    both_ask = threading.Barrier(2)

    class SlowMeter:
        def __init__(self) -> None:
            time.sleep(0.1)  # long enough for the other thread to arrive
            built.append(self)

    monkeypatch.setattr(meter_module, "ConceptMeter", SlowMeter)
    monkeypatch.setattr(meter_module, "_default", None)

    def ask(_: int) -> object:
        both_ask.wait(10)
        return default_meter()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first is second is built[0]
    assert len(built) == 1


def test_the_default_meter_has_the_weights_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, frames: np.ndarray):
    before = default_meter()
    other = shutil.copytree(scenes.clip_folder(), tmp_path / "clip")
    with monkeypatch.context() as patch:
        patch.setattr(meter_module, "clip_folder", lambda: other)
        assert default_meter() is not before
    assert np.array_equal(default_meter().image_features(frames), before.image_features(frames))


def test_scores_do_not_depend_on_the_words_that_were_scored_before() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    fresh, used = ConceptMeter(), ConceptMeter()
    for earlier in (["red"], ["green", "circle", "blue"]):
        used.scores(frames, earlier)
    words = ["red", "circle", "square", "purple"]
    for expected, scores in zip(fresh.scores(frames, words), used.scores(frames, words), strict=True):
        assert np.array_equal(expected, scores)
