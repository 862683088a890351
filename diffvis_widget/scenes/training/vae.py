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
# Shares of a batch other than 1: settings with the least contrast to objects are drawn most often.
_SHARES = {"night": 4.0, "sea": 3.0, "sunset": 2.0}


def latent_posterior(vae: AutoencoderKL, x: Tensor) -> DiagonalGaussianDistribution:
    """The autoencoder's distribution over the latents of images.

    Args:
        vae: The autoencoder.
        x: Images (n, 3, 96, 96) in -1..1.

    Returns:
        The distribution.
    """
    (posterior,) = vae.encode(x, return_dict=False)
    return posterior


def similarity(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of two images at each pixel; 1 where they are alike.

    It compares how pixels vary around their mean, so that a faint edge counts as much as a strong one (Wang et al.
    2004, eq. 13, over windows of 5 x 5; the second constant is a third of the paper's).

    Args:
        x: Images (n, 3, h, w) in -1..1.
        y: Images of the same shape.

    Returns:
        (n, 3, h, w).
    """

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, 5, 1, 2, count_include_pad=False)

    mx, my = mean(x), mean(y)
    vx, vy, covariance = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2 / 3
    return (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def object_weights(plan: Sketch) -> Tensor:
    """The weight of each pixel in the loss: 3.4 on objects and close around them, 0.4 elsewhere.

    Args:
        plan: The scene.

    Returns:
        float32 (96, 96).
    """
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    near = np.zeros((SIZE, SIZE))
    for pose in plan.poses:
        distance = np.hypot(x - pose.x, y - pose.y)
        near = np.maximum(near, np.clip((1.35 * pose.r + 3 - distance) / 3, 0, 1))
    return torch.from_numpy(0.4 + 3 * near).float()


def train_vae(
    vae: AutoencoderKL, data: Dataset, folder: Path, steps: int, batch: int = 8, quick: bool = False
) -> AutoencoderKL:
    """Train with absolute, squared and structural error, mostly on objects, and a small KL term that keeps every edge.

    The latents of the result are uncorrelated channels of mean 0 and spread 1 (`whiten`).

    Args:
        vae: The autoencoder.
        data: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Images per step.
        quick: Compile the network.

    Returns:
        The moving average of the network.
    """
    vae = vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    plans = [sketch(i, held_out=False) for i in range(len(data.captions))]
    settings = [str(plan.spec.setting) for plan in plans]
    often = Counter(settings)
    chance = torch.tensor([_SHARES.get(s, 1.0) / often[s] for s in settings])

    def error_of(x: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
        posterior = latent_posterior(vae, x)
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
        weight = torch.stack([object_weights(plans[i]) for i in index.tolist()])[:, None]
        noise = torch.randn((batch, vae.config["latent_channels"], GRID, GRID), generator=generator)
        return compute(*(part.to(device_of(vae)) for part in (x, weight, noise)))

    plan = Plan(steps, 1.5e-3, warmup=50, decay=0.5, ema=0.998)
    return whiten(fit("vae", vae, loss_of, plan, folder, weight_decay=0.0), data)


@torch.no_grad()
def whiten(vae: AutoencoderKL, data: Dataset) -> AutoencoderKL:
    """The same autoencoder with latents of uncorrelated channels of mean 0 and spread 1 each.

    Otherwise two channels can nearly repeat each other, and their small difference, the detail, weighs next to nothing
    in the loss of a denoiser. The change of base that moves channels least (ZCA) is merged into the two 1 x 1
    convolutions next to the latents; their spread becomes the same at every position.

    Args:
        vae: The autoencoder.
        data: The training scenes.

    Returns:
        A copy.
    """
    index = torch.linspace(0, len(data.captions) - 1, min(2000, len(data.captions))).long()
    posteriors = [latent_posterior(vae, data.pixels(part).to(device_of(vae))) for part in index.split(50)]
    means = torch.cat([p.mean for p in posteriors]).transpose(0, 1).flatten(1).double()
    variance = torch.cat([p.var for p in posteriors]).mean(dim=(0, 2, 3)).double()
    centre = means.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(means))
    to_white = vectors @ values.rsqrt().diag() @ vectors.T
    from_white = vectors @ values.sqrt().diag() @ vectors.T
    n = len(centre)
    vae = copy.deepcopy(vae)
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into is not None
    assert out is not None
    assert into.bias is not None
    assert out.bias is not None
    rows = into.weight[:n, :, 0, 0].double()
    into.weight[:n, :, 0, 0] = (to_white @ rows).float()
    into.bias[:n] = (to_white @ (into.bias[:n].double() - centre)).float()
    into.weight[n:] = 0
    into.bias[n:] = (to_white.square() @ variance).log().float()
    columns = out.weight[:, :, 0, 0].double()
    out.bias += (columns @ centre).float()
    out.weight[:, :, 0, 0] = (columns @ from_white).float()
    return vae


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, data: Dataset, folder: Path, quick: bool = False) -> tuple[Tensor, Tensor]:
    """Encode all training images; the result is stored.

    Args:
        vae: The autoencoder.
        data: The training scenes.
        folder: Where `latents.pt` is stored.
        quick: Compile the network.

    Returns:
        Mean and standard deviation of the latents, float16 (n, C, 12, 12).
    """
    path = folder / "latents.pt"

    def spread(x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = latent_posterior(vae, x)
        return posterior.mean, posterior.std

    encode = compiled(spread) if quick else spread
    device = device_of(vae)

    if path.exists():
        mean, std = torch.load(path, weights_only=True)
        # Stored latents belong to the autoencoder that made them, not to one that was trained further.
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
