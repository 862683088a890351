"""Latents to images: exactly as the pipeline, or approximately."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.tracer import Preview, Tracer, decode
from tests import pipelines


def final(pipe: Any, **arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    run = {"num_inference_steps": 2, "num_images_per_prompt": 2, **arguments}
    latents = pipe("x", **run, generator=torch.Generator().manual_seed(1), output_type="latent").images
    images = pipe("x", **run, generator=torch.Generator().manual_seed(1)).images
    return latents, np.stack([np.asarray(image) for image in images])


def test_decoding_gives_the_pipelines_own_pixels() -> None:
    pipe = pipelines.stable_diffusion()
    latents, images = final(pipe)
    assert np.array_equal(decode(pipe, latents), images)
    assert np.array_equal(decode(pipe, np.asarray(latents)), images)


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")  # diffusers' pipeline, about itself
def test_sdxl_in_half_precision_decodes_in_full() -> None:
    pipe = pipelines.stable_diffusion_xl().to(torch.float16)
    assert pipe.vae.config.force_upcast
    latents, images = final(pipe)
    assert np.array_equal(decode(pipe, latents), images)
    assert pipe.vae.dtype == torch.float16


def test_a_vae_with_shift_or_mean_and_deviation() -> None:
    pipe = pipelines.stable_diffusion()
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    scaling = pipe.vae.config.scaling_factor

    def exact(z: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            shown = (pipe.vae.decode(z)[0] * 0.5 + 0.5).clamp(0, 1)
        return np.round(shown.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)

    pipe.vae.register_to_config(shift_factor=0.1)
    assert np.array_equal(decode(pipe, latents), exact(latents / scaling + 0.1))
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 0.5, 1.5]
    pipe.vae.register_to_config(shift_factor=None, latents_mean=mean, latents_std=std)
    column = torch.tensor(std).view(1, 4, 1, 1), torch.tensor(mean).view(1, 4, 1, 1)
    assert np.array_equal(decode(pipe, latents), exact(latents * column[0] / scaling + column[1]))


def test_decoding_in_a_callback_is_not_the_end_of_the_run() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe, on_step=lambda step: decode(pipe, tracer.traces[0].predictions[-1:])) as tracer:
        images = pipe("x", num_inference_steps=3).images
    assert len(tracer.trace.steps) == 3
    assert np.array_equal(tracer.trace.image, np.asarray(images[0]))


def test_frames_of_a_trace() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        pipe("x", num_inference_steps=6)
    trace = tracer.trace
    frames = trace.frames("prediction")
    assert frames.shape == (6, 32, 32, 3)
    apart = np.concatenate([decode(pipe, trace.predictions[index : index + 1]) for index in range(6)])
    assert np.abs(frames.astype(int) - apart).max() <= 1
    assert np.array_equal(trace.frames("latents")[:4], decode(pipe, trace.visible_latents[:4]))


def test_preview_is_exact_once_and_then_the_best_affine_map() -> None:
    pipe = pipelines.stable_diffusion()
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((4, 16, 16)).astype(np.float32)
    preview = Preview(pipe)
    exact = preview.image(latents)
    assert np.array_equal(exact, decode(pipe, latents[None])[0])
    quick = preview.image(torch.from_numpy(latents))
    assert quick.shape == exact.shape
    assert quick.dtype == np.uint8
    blocks = exact.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    columns = np.concatenate([latents.reshape(4, -1).T, np.ones((256, 1))], axis=1)
    best = columns @ np.linalg.lstsq(columns, blocks.reshape(-1, 3), rcond=None)[0]
    assert np.abs(quick[::2, ::2].reshape(-1, 3) - best).max() <= 1
    # what it learns later does not make it forget
    other = rng.standard_normal((4, 16, 16)).astype(np.float32) * 2
    assert np.array_equal(preview.fit(other), decode(pipe, other[None])[0])
    blocks = np.concatenate([blocks, decode(pipe, other[None])[0].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))])
    columns = np.concatenate([columns, np.concatenate([other.reshape(4, -1).T, np.ones((256, 1))], axis=1)])
    best = columns @ np.linalg.lstsq(columns, blocks.reshape(-1, 3), rcond=None)[0]
    assert np.abs(preview.image(latents)[::2, ::2].reshape(-1, 3) - best[:256]).max() <= 1


def test_wrong_shapes() -> None:
    pipe = pipelines.stable_diffusion()
    with pytest.raises(ValueError, match=r"latents must be \(n, C, h, w\)"):
        decode(pipe, np.zeros((4, 16, 16), dtype=np.float32))
    with pytest.raises(ValueError, match=r"latents must be \(C, h, w\)"):
        Preview(pipe).image(np.zeros((1, 4, 16, 16), dtype=np.float32))
