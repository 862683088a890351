"""The autoencoder's training: what it is asked for, and which latents are kept."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffvis_widget.scenes.architecture import make_vae
from diffvis_widget.scenes.render import SIZE, draw, sketch
from diffvis_widget.scenes.training.dataset import Dataset
from diffvis_widget.scenes.training.vae import (
    encode_latents,
    latent_posterior,
    object_weights,
    similarity,
    train_vae,
    whiten,
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    scenes = [draw(i, held_out=False) for i in range(12)]
    return Dataset(np.stack([scene.image for scene in scenes]), [scene.caption for scene in scenes])


def test_structural_similarity_is_the_papers_formula():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand((2, 1, 3, 12, 12), generator=generator) * 2 - 1).unbind()
    actual = similarity(x, y)
    for row, column in ((6, 5), (0, 0), (11, 3)):
        top, left = max(row - 2, 0), max(column - 2, 0)
        a, b = (v[0, 1, top : row + 3, left : column + 3].numpy().astype(np.float64).ravel() for v in (x, y))
        c1, c2 = 4e-4, 1.2e-3
        (va, cov), (_, vb) = np.cov(a, b, bias=True)
        expected = (
            (2 * a.mean() * b.mean() + c1) * (2 * cov + c2) / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2))
        )
        assert actual[0, 1, row, column].item() == pytest.approx(expected, abs=1e-4)
    assert torch.allclose(similarity(x, x), torch.ones_like(x), atol=1e-4)


def test_a_faint_edge_counts_as_much_as_a_strong_one():
    edge = torch.zeros(1, 3, 12, 12)
    edge[..., 6:] = 1.0
    lost = [
        (1 - similarity(strength * edge, torch.full_like(edge, strength / 2)))[..., 6].mean() for strength in (0.3, 1)
    ]
    assert lost[0] > 0.9 * lost[1]


def test_pixels_of_things_count_most():
    plan = sketch(3, held_out=False)
    weight = object_weights(plan)
    assert weight.shape == (SIZE, SIZE)
    for pose in plan.poses:
        assert weight[int(pose.y), int(pose.x)].item() == pytest.approx(3.4)
    scene = draw(3, held_out=False)
    things = np.any([m for m, word in zip(scene.masks, scene.mentions, strict=True) if word.thing is not None], axis=0)
    assert weight.numpy()[things].mean() > 3
    assert weight.numpy()[~things].mean() < 1.5


def test_training_brings_images_closer(tmp_path: Path, data: Dataset):
    torch.manual_seed(0)
    untrained = make_vae()
    trained = train_vae(make_vae(), data, tmp_path, 25, batch=2)
    x = data.pixels(torch.arange(4))

    def error(vae: torch.nn.Module) -> float:
        with torch.no_grad():
            return (vae(x, return_dict=False)[0] - x).abs().mean().item()

    assert error(trained) < 0.7 * error(untrained)


@torch.no_grad()
def test_whitened_latents_say_the_same_in_even_channels(data: Dataset):
    torch.manual_seed(0)
    plain: Any = make_vae()
    white: Any = whiten(plain, data)
    x = data.pixels(torch.arange(12))
    before, after = latent_posterior(plain, x), latent_posterior(white, x)
    channels = after.mean.transpose(0, 1).flatten(1)
    assert torch.allclose(torch.cov(channels), torch.eye(4), atol=1e-2)
    assert torch.allclose(channels.mean(1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(white.decode(after.mean).sample, plain.decode(before.mean).sample, atol=1e-3)

    # noise of the spread that it claims, brought back to the channels of old, is on average the noise that was there
    old, new = (vae.post_quant_conv.weight[:, :, 0, 0] for vae in (plain, white))
    back = torch.linalg.solve(old, new)
    inverse = torch.linalg.inv(back)
    expected = inverse.square() @ before.var.mean(dim=(0, 2, 3))
    assert torch.allclose(after.var.mean(dim=(0, 2, 3)), expected, rtol=1e-2)
    assert after.std.var(dim=(0, 2, 3)).max() < 1e-9


def test_latents_are_kept_until_the_autoencoder_changes(tmp_path: Path, data: Dataset):
    torch.manual_seed(0)
    first, second = make_vae(), make_vae()
    mean, std = encode_latents(first, data, tmp_path)
    assert mean.shape == std.shape == (12, 4, 12, 12)
    made = (tmp_path / "latents.pt").stat().st_mtime_ns
    assert torch.equal(encode_latents(first, data, tmp_path)[0], mean)
    assert (tmp_path / "latents.pt").stat().st_mtime_ns == made
    assert not torch.allclose(encode_latents(second, data, tmp_path)[0], mean, atol=0.01)
