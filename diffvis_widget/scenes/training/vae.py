"""Training of the autoencoder, and the latents that it gives."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from diffvis_widget.scenes.render import SIZE, Sketch, sketch
from diffvis_widget.scenes.training.dataset import Dataset
from diffvis_widget.scenes.training.loop import Plan, fit

# Shares of a batch where they are not 1: settings against which things stand out least need most practice.
_SHARES = {"night": 4.0, "sea": 3.0, "sunset": 2.0}


def posterior_of(vae: AutoencoderKL, x: Tensor) -> DiagonalGaussianDistribution:
    """The autoencoder's distribution over latents of pictures (n, 3, 96, 96) in -1..1."""
    (posterior,) = vae.encode(x, return_dict=False)
    return posterior


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of two pictures in -1..1 at each pixel: (n, 3, h, w) and the same to (n, 3, h, w).

    1 where the pictures are alike. It compares how pixels vary about their mean, so that a faint edge counts as much
    as a strong one (Wang et al. 2004, eq. 13, over windows of 5 x 5; the second constant is a third of the paper's).
    """

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 5, 1, 2, count_include_pad=False)

    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2 / 3
    return (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def attention_to_things(plan: Sketch) -> Tensor:
    """How much each pixel counts, float32 (96, 96): 3.4 on things and close around them, 0.4 elsewhere."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    near = np.zeros((SIZE, SIZE))
    for pose in plan.poses:
        distance = np.hypot(x - pose.x, y - pose.y)
        near = np.maximum(near, np.clip((1.35 * pose.r + 3 - distance) / 3, 0, 1))
    return torch.from_numpy(0.4 + 3 * near).float()


def train_vae(vae: AutoencoderKL, data: Dataset, folder: Path, steps: int, batch: int = 8) -> AutoencoderKL:
    """Absolute, squared and structural error, mostly on things, and a KL term small enough to keep every edge."""
    vae = vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    plans = [sketch(i, held_out=False) for i in range(len(data.captions))]
    settings = [str(plan.spec.setting) for plan in plans]
    often = Counter(settings)
    chance = torch.tensor([_SHARES.get(s, 1.0) / often[s] for s in settings])

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.multinomial(chance, batch, generator=generator)
        x = data.pixels(index).contiguous(memory_format=torch.channels_last)
        weight = torch.stack([attention_to_things(plans[i]) for i in index.tolist()])[:, None]
        posterior = posterior_of(vae, x)
        noise = torch.randn(posterior.mean.shape, generator=generator)
        z = cast(torch.FloatTensor, posterior.mean + posterior.std * noise)
        y = vae.decode(z, return_dict=False)[0]
        error = (y - x).abs() + 8 * (y - x) ** 2 + 0.15 * (1 - similarity(x, y))
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return (weight / weight.mean() * error).mean() + 2e-4 * kl

    return fit("vae", vae, loss_of, Plan(steps, 1.5e-3, warmup=50, decay=0.5, ema=0.998), folder, weight_decay=0.0)


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, data: Dataset, folder: Path) -> tuple[Tensor, Tensor]:
    """The latent mean and standard deviation of every training image, float16 (n, 4, 12, 12), kept in `folder`."""
    path = folder / "latents.pt"

    def encode(index: Tensor) -> DiagonalGaussianDistribution:
        return posterior_of(vae, data.pixels(index).contiguous(memory_format=torch.channels_last))

    if path.exists():
        mean, std = torch.load(path, weights_only=True)
        # Kept ones hold for the autoencoder that made them, not for one that has learned more since.
        same = torch.allclose(mean[:4].float(), encode(torch.arange(4)).mean, atol=0.01)
        if same and len(mean) == len(data.captions):
            return mean, std
    means, stds = [], []
    for index in torch.arange(len(data.captions)).split(64):
        posterior = encode(index)
        means.append(posterior.mean.half())
        stds.append(posterior.std.half())
    mean, std = torch.cat(means), torch.cat(stds)
    torch.save((mean, std), path)
    return mean, std
