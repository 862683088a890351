"""Training of the autoencoder, and the latents that it gives."""

from __future__ import annotations

import copy
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

from .dataset import Dataset
from .loop import Plan, compiled, device_of, fit

GRID = SIZE // 8  # side of the latents
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


def train_vae(
    vae: AutoencoderKL, data: Dataset, folder: Path, steps: int, batch: int = 8, quick: bool = False
) -> AutoencoderKL:
    """Absolute, squared and structural error, mostly on things, and a KL term small enough to keep every edge.

    The latents of what is returned are uncorrelated channels of mean 0 and spread 1 (`whitened`).
    """
    vae = vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    plans = [sketch(i, held_out=False) for i in range(len(data.captions))]
    settings = [str(plan.spec.setting) for plan in plans]
    often = Counter(settings)
    chance = torch.tensor([_SHARES.get(s, 1.0) / often[s] for s in settings])

    def error_of(x: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
        posterior = posterior_of(vae, x)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        z = cast(torch.FloatTensor, mean + (0.5 * logvar).exp() * noise)
        y = vae.decode(z, return_dict=False)[0].float()
        error = (y - x).abs() + 8 * (y - x) ** 2 + 0.15 * (1 - similarity(x, y))
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return (weight / weight.mean() * error).mean() + 1e-3 * kl

    compute = compiled(error_of) if quick else error_of

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.multinomial(chance, batch, replacement=True, generator=generator)
        x = data.pixels(index).contiguous(memory_format=torch.channels_last)
        weight = torch.stack([attention_to_things(plans[i]) for i in index.tolist()])[:, None]
        noise = torch.randn((batch, vae.config["latent_channels"], GRID, GRID), generator=generator)
        return compute(*(part.to(device_of(vae)) for part in (x, weight, noise)))

    plan = Plan(steps, 1.5e-3, warmup=50, decay=0.5, ema=0.998)
    return whitened(fit("vae", vae, loss_of, plan, folder, weight_decay=0.0), data)


@torch.no_grad()
def whitened(vae: AutoencoderKL, data: Dataset) -> AutoencoderKL:
    """The same autoencoder with latents of uncorrelated channels, mean 0 and spread 1 each.

    Left as they are, two channels can nearly repeat each other, and what little they differ by, the detail, weighs next
    to nothing in the error of a denoiser. The change of base that moves channels least (ZCA) goes into the two
    convolutions of 1 x 1 next to the latents; their spread becomes the same at every place.
    """
    index = torch.linspace(0, len(data.captions) - 1, min(2000, len(data.captions))).long()
    posteriors = [posterior_of(vae, data.pixels(part).to(device_of(vae))) for part in index.split(50)]
    means = torch.cat([p.mean for p in posteriors]).transpose(0, 1).flatten(1).double()
    variance = torch.cat([p.var for p in posteriors]).mean(dim=(0, 2, 3)).double()
    centre = means.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(means))
    there = vectors @ values.rsqrt().diag() @ vectors.T
    back = vectors @ values.sqrt().diag() @ vectors.T
    n = len(centre)
    vae = copy.deepcopy(vae)
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into is not None
    assert out is not None
    assert into.bias is not None
    assert out.bias is not None
    rows = into.weight[:n, :, 0, 0].double()
    into.weight[:n, :, 0, 0] = (there @ rows).float()
    into.bias[:n] = (there @ (into.bias[:n].double() - centre)).float()
    into.weight[n:] = 0
    into.bias[n:] = (there.square() @ variance).log().float()
    columns = out.weight[:, :, 0, 0].double()
    out.bias += (columns @ centre).float()
    out.weight[:, :, 0, 0] = (columns @ back).float()
    return vae


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, data: Dataset, folder: Path, quick: bool = False) -> tuple[Tensor, Tensor]:
    """The latent mean and standard deviation of every training image, float16 (n, C, 12, 12), kept in `folder`."""
    path = folder / "latents.pt"

    def spread(x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = posterior_of(vae, x)
        return posterior.mean, posterior.std

    encode = compiled(spread) if quick else spread
    device = device_of(vae)

    if path.exists():
        mean, std = torch.load(path, weights_only=True)
        # Kept ones hold for the autoencoder that made them, not for one that has learned more since.
        near = 0.1 if quick else 0.01
        same = torch.allclose(mean[:4].float(), spread(data.pixels(torch.arange(4)).to(device))[0].cpu(), atol=near)
        if same and len(mean) == len(data.captions):
            return mean, std
    means, stds = [], []
    for index in torch.arange(len(data.captions)).split(64):
        mean, std = encode(data.pixels(index).to(device, memory_format=torch.channels_last))
        means.append(mean.half().cpu())
        stds.append(std.half().cpu())
    mean, std = torch.cat(means), torch.cat(stds)
    torch.save((mean, std), path)
    return mean, std
