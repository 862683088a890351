"""The losses of the four networks, each a stage of training with its plan."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffvis_widget.scenes.architecture import MAX_TOKENS, TEXT_WIDTH, make_scheduler
from diffvis_widget.scenes.render import SIZE, sketch
from diffvis_widget.scenes.training.dataset import Dataset
from diffvis_widget.scenes.training.loop import Plan, fit

THUMBNAIL = 8
_WINDOW = 64


def _pixels(data: Dataset, index: Tensor) -> Tensor:
    """Images of the given indices as float32 (n, 3, 96, 96) in -1..1."""
    batch = torch.from_numpy(data.images[index.numpy()])
    return batch.permute(0, 3, 1, 2).float() / 127.5 - 1


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids int64 (n, MAX_TOKENS), padded and cut as the pipeline does it."""
    return tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def posterior_of(vae: AutoencoderKL, x: Tensor) -> DiagonalGaussianDistribution:
    """The autoencoder's distribution over latents of pictures (n, 3, 96, 96) in -1..1."""
    (posterior,) = vae.encode(x, return_dict=False)
    return posterior


def train_vae(vae: AutoencoderKL, data: Dataset, folder: Path, steps: int) -> AutoencoderKL:
    """Absolute and squared error, and a KL term small enough to keep every edge.

    Most steps see windows around a thing, where all detail is; the last ones see whole pictures, whose group
    statistics are those that the model meets in use.
    """
    vae = vae.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    poses = [sketch(i, held_out=False).poses for i in range(len(data.captions))]

    def window(index: int, generator: torch.Generator) -> Tensor:
        """A square of _WINDOW pixels whose middle is near a thing of the scene, uint8 (side, side, 3)."""
        at, dx, dy = torch.rand(3, generator=generator).tolist()
        pose = poses[index][int(at * len(poses[index]))]
        corner = (pose.y + 24 * dy - 12, pose.x + 24 * dx - 12)
        top, left = (int(min(max(v - _WINDOW / 2, 0), SIZE - _WINDOW)) for v in corner)
        return torch.from_numpy(data.images[index, top : top + _WINDOW, left : left + _WINDOW])

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        windows = step < 0.78 * steps
        index = torch.randint(len(data.captions), (12 if windows else 6,), generator=generator)
        if windows:
            parts = torch.stack([window(i, generator) for i in index.tolist()])
            x = parts.permute(0, 3, 1, 2).float() / 127.5 - 1
        else:
            x = _pixels(data, index)
        x = x.contiguous(memory_format=torch.channels_last)
        posterior = posterior_of(vae, x)
        noise = torch.randn(posterior.mean.shape, generator=generator)
        z = cast(torch.FloatTensor, posterior.mean + posterior.std * noise)
        y = vae.decode(z, return_dict=False)[0]
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        return F.l1_loss(y, x) + 8 * F.mse_loss(y, x) + 2e-4 * kl

    return fit("vae", vae, loss_of, Plan(steps, 2e-3, warmup=50, ema=0.998), folder, weight_decay=0.0)


class _CrossAttention(nn.Module):
    """One layer of cells reading the text."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.attention = nn.MultiheadAttention(TEXT_WIDTH, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(TEXT_WIDTH),
            nn.Linear(TEXT_WIDTH, 2 * TEXT_WIDTH),
            nn.GELU(),
            nn.Linear(2 * TEXT_WIDTH, TEXT_WIDTH),
        )

    def forward(self, cells: Tensor, text: Tensor) -> Tensor:
        cells = cells + self.attention(self.norm(cells), text, text, need_weights=False)[0]
        return cells + self.mlp(cells)


class LayoutReader(nn.Module):
    """Text features to a thumbnail of the scene: learned position queries, two cross-attention layers.

    It exists to pretrain the text encoder, whose features must hold the whole layout, and is thrown away after.
    """

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.queries = nn.Parameter(torch.randn(THUMBNAIL * THUMBNAIL, TEXT_WIDTH) * 0.02)
        self.layers = nn.ModuleList([_CrossAttention(), _CrossAttention()])
        self.head = nn.Linear(TEXT_WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (n, tokens) to thumbnails (n, 3, 8, 8) in -1..1."""
        text = self.text_encoder(ids).last_hidden_state
        cells = self.queries.expand(len(ids), -1, -1)
        for layer in self.layers:
            cells = layer(cells, text)
        return self.head(cells).transpose(1, 2).reshape(len(ids), 3, THUMBNAIL, THUMBNAIL)


def train_text(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, data: Dataset, folder: Path, steps: int, batch: int = 96
) -> CLIPTextModel:
    """Pretrain the text encoder to predict the scene's thumbnail."""
    reader = LayoutReader(text_encoder)
    ids = tokenize(tokenizer, data.captions)
    padding = int(tokenize(tokenizer, [""])[0, -1])

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(data.captions), (batch,), generator=generator)
        target = F.adaptive_avg_pool2d(_pixels(data, index), THUMBNAIL)
        # Padding says nothing: read no further than the longest caption of the batch.
        length = int(torch.ne(ids[index], padding).sum(1).max()) + 1
        return F.mse_loss(reader(ids[index, :length]), target)

    return fit("text", reader, loss_of, Plan(steps, 1.5e-3, warmup=50), folder).text_encoder


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, data: Dataset, folder: Path) -> tuple[Tensor, Tensor]:
    """The latent mean and standard deviation of every training image, float16 (n, 4, 12, 12), kept in `folder`."""
    path = folder / "latents.pt"
    if path.exists():
        mean, std = torch.load(path, weights_only=True)
        if len(mean) == len(data.captions):
            return mean, std
    means, stds = [], []
    for index in torch.arange(len(data.captions)).split(64):
        posterior = posterior_of(vae, _pixels(data, index).contiguous(memory_format=torch.channels_last))
        means.append(posterior.mean.half())
        stds.append(posterior.std.half())
    mean, std = torch.cat(means), torch.cat(stds)
    torch.save((mean, std), path)
    return mean, std


class Denoiser(nn.Module):
    """The U-Net and the text encoder that learn together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder


def train_unet(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    latents: tuple[Tensor, Tensor],
    captions: list[str],
    folder: Path,
    steps: int,
    batch: int = 40,
) -> Denoiser:
    """v-prediction with equal weight at every noise level, high noise drawn more often, captions dropped 10 %.

    Layout is decided while there is almost only noise, where the usual weightings fade to nothing.
    """
    model = Denoiser(copy.deepcopy(unet), copy.deepcopy(text_encoder)).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    mean, std = latents
    scale = 1 / mean[:4000].float().std()
    ids = tokenize(tokenizer, captions)
    empty = tokenize(tokenizer, [""])
    alphas = make_scheduler().alphas_cumprod

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(captions), (batch,), generator=generator)
        noise = torch.randn((2, batch, *mean.shape[1:]), generator=generator)
        clean = (mean[index].float() + std[index].float() * noise[0]) * scale
        # A root of a uniform number leans to 1: to high noise.
        t = (torch.rand(batch, generator=generator).pow(0.75) * 1000).long().clamp(max=999)
        a = alphas[t].view(-1, 1, 1, 1)
        noisy = a.sqrt() * clean + (1 - a).sqrt() * noise[1]
        v = a.sqrt() * noise[1] - (1 - a).sqrt() * clean
        tokens = ids[index].clone()
        tokens[torch.rand(batch, generator=generator) < 0.1] = empty[0]
        text = model.text_encoder(tokens).last_hidden_state
        return F.mse_loss(model.unet(noisy, t, text).sample, v)

    return fit("unet", model, loss_of, Plan(steps, 1.5e-3, warmup=100), folder)
