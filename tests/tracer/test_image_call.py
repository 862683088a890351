"""Images that exist: noised by the scheduler's own forward process, and evaluated once at each level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from diffvis_widget import cli, scenes
from diffvis_widget.files import open_trace
from diffvis_widget.tracer import trace_image
from tests import pipelines, pipelines_joint
from tests.tracer.families.test_families import build

IMAGE = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
LEVELS = [200, 700]
SCHEDULERS = [
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
]


def encoded(pipe: Any) -> torch.Tensor:
    pixels = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents = pipe.vae.encode(pixels).latent_dist.mode()
    return (latents - (getattr(pipe.vae.config, "shift_factor", None) or 0)) * pipe.vae.config.scaling_factor


def noise(shape: Any, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("make", [pipelines.stable_diffusion])
def test_a_unet_sees_the_image_noised_by_the_forward_process(make: Any, name: str) -> None:
    pipe = make()
    pipe.scheduler = getattr(diffusers, name)(**pipelines.TRAIN_BETAS)
    before = dict(vars(pipe.scheduler))
    trace = trace_image(pipe, IMAGE, "a red circle", timesteps=LEVELS, seed=5, concepts=["sky"])
    assert vars(pipe.scheduler).keys() == before.keys()
    assert [step.timestep for step in trace.steps] == [700, 200]
    assert trace.meta["scheduler"] == name
    clean = encoded(pipe)
    for index, level in enumerate((700, 200)):
        share = float(pipe.scheduler.alphas_cumprod[level])
        noised = share**0.5 * clean + (1 - share) ** 0.5 * noise(clean.shape, 5 + index)
        # schedulers that do not scale their sample keep it over the square root of the share
        seen = trace.visible_latents[index]
        assert np.allclose(seen, noised[0].numpy(), atol=2e-5)
        assert abs(trace.sigmas[index] - ((1 - share) / share) ** 0.5) < 1e-4
        assert np.isfinite(trace.predictions[index]).all()
    assert np.allclose(trace.latents[2], clean[0].numpy(), atol=1e-6)
    assert trace.heat_map("sky").shape == (16, 24)
    assert trace.heat_map("red", kind="refined").shape == (16, 24)
    assert np.array_equal(trace.image, IMAGE)


@pytest.mark.parametrize("make", [pipelines_joint.stable_diffusion_3, pipelines_joint.flux])
def test_a_flow_model_sees_the_image_between_itself_and_noise(make: Any) -> None:
    pipe = make()
    trace = trace_image(
        pipe, Image.fromarray(IMAGE), "a red circle", timesteps=LEVELS, seed=0, concepts=["sky"], max_sequence_length=24
    )
    clean = encoded(pipe)
    for index, level in enumerate((0.7, 0.2)):
        expected = (1 - level) * clean + level * noise(clean.shape, index)
        assert np.allclose(trace.latents[index], expected[0].numpy(), atol=1e-5)
        assert abs(trace.sigmas[index] - level) < 1e-6
    assert trace.heat_map("sky").shape == trace.heat_map("circle").shape == (8, 12)


def test_the_prediction_of_the_scenes_model_is_the_image_again(tmp_path: Path) -> None:
    scene = scenes.draw(3)
    trace = trace_image(scenes.load(), scene.image, scene.caption, timesteps=[300], guidance_scale=1.0)
    predicted = trace.frame("prediction", 0).astype(float)
    assert np.abs(predicted - scene.image).mean() < 12
    assert np.abs(np.roll(predicted, 24, axis=1) - scene.image).mean() > 15  # another place is another image
    opened = open_trace(trace.save(tmp_path / "image.safetensors"))
    assert np.array_equal(opened.image, scene.image)


def test_the_command_line_traces_an_image(tmp_path: Path, capsys: Any) -> None:
    scene = scenes.draw(3)
    Image.fromarray(scene.image).save(tmp_path / "photo.png")
    out = tmp_path / "run.safetensors"
    arguments = ["trace", "a drawing", "--image", str(tmp_path / "photo.png"), "--timesteps", "500,300"]
    assert cli.main([*arguments, "--concepts", "circle,red star", "--out", str(out)]) == 0
    trace = open_trace(out)
    assert [step.timestep for step in trace.steps] == [500, 300]
    assert [word.text for word in trace.words if word.kind == "concept"] == ["circle", "red star"]
    assert cli.main([*arguments, "--steps", "3", "--out", str(tmp_path / "other.safetensors")]) == 1
    assert "leave out --steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": "photo.png"}, TypeError, "image must be a PIL image or an array"),
        ({"image": IMAGE[..., 0]}, ValueError, r"image must be uint8 \(H, W, 3\), not uint8 \(32, 48\)"),
        ({"image": IMAGE / 255.0}, ValueError, "image must be uint8"),
        ({"image": Image.new("RGBA", (32, 32))}, ValueError, "its mode is 'RGBA'"),
        ({"image": IMAGE[:31]}, ValueError, r"48 x 31 pixels do not fit .* image.resize\(\(48, 32\)\)"),
        ({"timesteps": []}, ValueError, "timesteps must be a list of whole numbers from 0 to 999"),
        ({"timesteps": [1000]}, ValueError, "timesteps must be a list of whole numbers from 0 to 999"),
        ({"timesteps": [0.5]}, ValueError, "timesteps must be a list of whole numbers"),
        ({"timesteps": [5, 5]}, ValueError, "each once"),
        ({"timesteps": 500}, TypeError, "timesteps must be a list"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"image": IMAGE, "prompt": "a circle", "timesteps": [500], **changes}
    with pytest.raises(error, match=message):
        trace_image(pipelines.stable_diffusion(), **arguments)


def test_a_pipeline_without_an_encoder_is_refused() -> None:
    pipe = pipelines.stable_diffusion()
    pipe.vae.encoder = None
    with pytest.raises(
        ValueError, match="has no encoder that turns an image into latents: its autoencoder has a decoder"
    ):
        trace_image(pipe, IMAGE, "a circle", timesteps=[500])
    with pytest.raises(ValueError, match="trace_image is known for Stable Diffusion"):
        trace_image(build("qwen"), IMAGE, "a circle", timesteps=[500])
