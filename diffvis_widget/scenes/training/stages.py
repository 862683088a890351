"""Training of the text encoder and the U-Net."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffvis_widget.scenes.architecture import MAX_TOKENS, TEXT_WIDTH, make_scheduler
from diffvis_widget.scenes.render import SIZE, Sketch, sketch

from .dataset import Dataset
from .loop import Plan, compiled, device_of, fit
from .vae import GRID, object_weights

THUMBNAIL = 8
# How often scenes of a setting are drawn, relative to the world: objects at night took longest to learn, and on plain
# paper ("None") the slightest tint is another setting.
_SHARES = {"night": 2.5, "sea": 1.7, "sunset": 1.3, "None": 1.2}
# The weight of the guided prediction's error beside that of each prediction. The optimum then understates the effect of
# a caption: with two conditional predictions per guided one, by (2 + 7.5 * 0.03) / (2 + 7.5**2 * 0.03) = 0.6.
GUIDANCE, _GUIDED_WEIGHT = 7.5, 0.03


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Tokenize captions as the pipeline does.

    Args:
        tokenizer: The tokenizer.
        captions: n captions.

    Returns:
        int64 (n, MAX_TOKENS), padded and truncated.
    """
    return tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


class _CrossAttention(nn.Module):
    """A layer in which cells attend to the text."""

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
    """Predicts a thumbnail of the scene from text features: learned position queries and two cross-attention layers.

    It pretrains the text encoder, whose features must contain the whole layout, and is discarded after that.

    Args:
        text_encoder: The text encoder.
    """

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.queries = nn.Parameter(torch.randn(THUMBNAIL * THUMBNAIL, TEXT_WIDTH) * 0.02)
        self.layers = nn.ModuleList([_CrossAttention(), _CrossAttention()])
        self.head = nn.Linear(TEXT_WIDTH, 3)

    def forward(self, ids: Tensor) -> Tensor:
        """Predict thumbnails.

        Args:
            ids: Token ids (n, tokens).

        Returns:
            (n, 3, 8, 8) in -1..1.
        """
        text = self.text_encoder(ids).last_hidden_state
        cells = self.queries.expand(len(ids), -1, -1)
        for layer in self.layers:
            cells = layer(cells, text)
        return self.head(cells).transpose(1, 2).reshape(len(ids), 3, THUMBNAIL, THUMBNAIL)


def train_text(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, data: Dataset, folder: Path, steps: int, batch: int = 96
) -> CLIPTextModel:
    """Pretrain the text encoder to predict the thumbnail of a scene.

    Args:
        text_encoder: The text encoder.
        tokenizer: Its tokenizer.
        data: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Scenes per step.

    Returns:
        The moving average of the text encoder.
    """
    reader = LayoutReader(text_encoder).to(text_encoder.device)
    ids = tokenize(tokenizer, data.captions)
    padding = int(tokenize(tokenizer, [""])[0, -1])

    device = device_of(reader)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(data.captions), (batch,), generator=generator)
        target = F.adaptive_avg_pool2d(data.pixels(index), THUMBNAIL).to(device)
        # Drop the padding beyond the longest caption of the batch.
        length = int(torch.ne(ids[index], padding).sum(1).max()) + 1
        return F.mse_loss(reader(ids[index, :length].to(device)), target)

    return fit("text", reader, loss_of, Plan(steps, 1.5e-3, warmup=50), folder).text_encoder


class Denoiser(nn.Module):
    """The U-Net and the text encoder, which are trained together.

    Args:
        unet: The U-Net.
        text_encoder: The text encoder.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder


def latent_weights(plans: Iterable[Sketch]) -> Tensor:
    """The weight of each position of the latents in the loss, higher on objects.

    Args:
        plans: n scenes.

    Returns:
        float16 (n, 1, 12, 12), mean 1.
    """
    weights = torch.stack([F.avg_pool2d(object_weights(plan)[None], SIZE // GRID).half() for plan in plans])
    return 0.5 + 0.5 * weights / weights.float().mean()


class NoisedScenes:
    """Training batches of the denoiser: noised latents, with their captions, without them, or both in turn.

    Args:
        latents: Mean and standard deviation of the latents of the training images.
        captions: Their captions.
        tokenizer: The tokenizer.
    """

    def __init__(self, latents: tuple[Tensor, Tensor], captions: list[str], tokenizer: CLIPTokenizer) -> None:
        self.mean, self.std = latents
        self.scale = 1 / self.mean[:4000].float().std()
        self.tokens = tokenize(tokenizer, captions)
        self.empty = tokenize(tokenizer, [""])
        self.plans = [sketch(i, held_out=False) for i in range(len(captions))]
        self.places = latent_weights(self.plans)
        self.chance = torch.tensor([_SHARES.get(str(plan.spec.setting), 1.0) for plan in self.plans])
        self.alphas = make_scheduler().alphas_cumprod

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Draw a batch.

        The first third has its captions, and the second third is the first without them.

        Args:
            batch: Number of scenes.
            generator: Random generator.

        Returns:
            Clean latents, noise, time steps, tokens, and the weight of each position.
        """
        pairs = batch // 3
        index = torch.multinomial(self.chance, batch - pairs, replacement=True, generator=generator)
        noise = torch.randn((2, batch - pairs, *self.mean.shape[1:]), generator=generator)
        # A root of a uniform number favours 1: high noise.
        t = (torch.rand(batch - pairs, generator=generator).pow(0.75) * 1000).long().clamp(max=999)
        twice = torch.cat([torch.arange(pairs), torch.arange(batch - pairs)])
        index, t, noise = index[twice], t[twice], noise[:, twice]
        clean = (self.mean[index].float() + self.std[index].float() * noise[0]) * self.scale
        tokens = self.tokens[index].clone()
        tokens[pairs : 2 * pairs] = self.empty[0]
        tokens[2 * pairs :][torch.rand(batch - 2 * pairs, generator=generator) < 0.1] = self.empty[0]
        return clean, noise[1], t, tokens, self.places[index].float()


def noised(clean: Tensor, noise: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Add noise to latents.

    Args:
        clean: Latents (n, C, h, w).
        noise: Noise of the same shape.
        a: Cumulative products of alphas (n, 1, 1, 1).

    Returns:
        The noised latents, and their v.
    """
    return a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean


def denoising_loss(predictions: Tensor, v: Tensor, weights: Tensor) -> Tensor:
    """The squared error of the predictions for a batch of `NoisedScenes`, and of the guided predictions of its pairs.

    Args:
        predictions: Predictions of v.
        v: The true v.
        weights: The weight of each position.

    Returns:
        The loss, a scalar.
    """
    pairs = len(v) // 3
    conditional, unconditional = predictions[:pairs], predictions[pairs : 2 * pairs]
    guided = unconditional + GUIDANCE * (conditional - unconditional)
    error, pull = weights * (predictions - v) ** 2, weights[:pairs] * (guided - v[:pairs]) ** 2
    return error.mean() + _GUIDED_WEIGHT * pull.mean() * pairs / len(v)


def without_fused_attention(model: Denoiser) -> None:
    """Make a denoiser compute attention step by step.

    Differentiating the fused kernels on a processor takes more than half of the time.

    Args:
        model: The denoiser; it is changed.
    """
    model.unet.set_attn_processor(AttnProcessor())
    model.text_encoder.set_attn_implementation("eager")


def train_unet(
    denoiser: Denoiser,
    scenes: NoisedScenes,
    folder: Path,
    steps: int,
    batch: int = 96,
    rate: float = 2e-3,
    quick: bool = False,
    evaluation: tuple[int, Callable[[Denoiser, int], object]] | None = None,
) -> Denoiser:
    """Train the denoiser with v-prediction; high noise is drawn more often, at least 10 % of the captions are dropped.

    Guidance multiplies the effect of a caption by 7.5, and with it each error by which the two predictions differ. So a
    third of the scenes is seen with and without the caption, and the guided prediction enters the loss too.

    The layout is decided while there is almost only noise, where the usual weightings vanish. Positions of objects
    count more as far as the noised latents reveal them: earlier, the extra weight would ask for more objects than there
    are.

    Args:
        denoiser: U-Net and text encoder.
        scenes: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Scenes per step.
        rate: The highest learning rate.
        quick: Compile the networks.
        evaluation: As for `fit`.

    Returns:
        The moving average of the denoiser.
    """
    model = copy.deepcopy(denoiser).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    device = device_of(model)
    alphas = scenes.alphas.to(device)

    def error_of(clean: Tensor, noise: Tensor, t: Tensor, tokens: Tensor, place: Tensor) -> Tensor:
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, v = noised(clean, noise, a)
        text = model.text_encoder(tokens).last_hidden_state
        predictions = model.unet(noisy, t, text, return_dict=False)[0].float()
        return denoising_loss(predictions, v, 1 + a * (place - 1))

    compute = compiled(error_of) if quick else error_of
    if quick and device.type == "cpu":
        without_fused_attention(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        return compute(*(part.to(device) for part in scenes.draw(batch, generator)))

    return fit("unet", model, loss_of, Plan(steps, rate, warmup=100, decay=0.5), folder, evaluation=evaluation)
