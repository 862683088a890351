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
from .vae import GRID, attention_to_things

THUMBNAIL = 8
# How much oftener than they are drawn scenes of a setting are seen: things at night took longest to learn, and on plain
# paper ("None") the slightest tint is another setting.
_SHARES = {"night": 2.5, "sea": 1.7, "sunset": 1.3, "None": 1.2}
# What the error of the guided answer counts beside an answer's own. The best answers then tell what a caption changes
# weaker: with two answers to captions beside each guided one, by (2 + 7.5 * 0.03) / (2 + 7.5**2 * 0.03) = 0.6.
GUIDANCE, _PULL = 7.5, 0.03


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids int64 (n, MAX_TOKENS), padded and cut as the pipeline does it."""
    return tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


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
    reader = LayoutReader(text_encoder).to(text_encoder.device)
    ids = tokenize(tokenizer, data.captions)
    padding = int(tokenize(tokenizer, [""])[0, -1])

    device = device_of(reader)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(data.captions), (batch,), generator=generator)
        target = F.adaptive_avg_pool2d(data.pixels(index), THUMBNAIL).to(device)
        # Padding says nothing: read no further than the longest caption of the batch.
        length = int(torch.ne(ids[index], padding).sum(1).max()) + 1
        return F.mse_loss(reader(ids[index, :length].to(device)), target)

    return fit("text", reader, loss_of, Plan(steps, 1.5e-3, warmup=50), folder).text_encoder


class Denoiser(nn.Module):
    """The U-Net and the text encoder that learn together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder


def attention_to_places(plans: Iterable[Sketch]) -> Tensor:
    """How much each place of the latents counts for the thing that stands there, float16 (n, 1, 12, 12), mean 1."""
    weights = torch.stack([F.avg_pool2d(attention_to_things(plan)[None], SIZE // GRID).half() for plan in plans])
    return 0.5 + 0.5 * weights / weights.float().mean()


class NoisedScenes:
    """Scenes as the denoiser meets them: latents under noise, with their captions, without, or both in turn."""

    def __init__(self, latents: tuple[Tensor, Tensor], captions: list[str], tokenizer: CLIPTokenizer) -> None:
        self.mean, self.std = latents
        self.scale = 1 / self.mean[:4000].float().std()
        self.tokens = tokenize(tokenizer, captions)
        self.empty = tokenize(tokenizer, [""])
        self.plans = [sketch(i, held_out=False) for i in range(len(captions))]
        self.places = attention_to_places(self.plans)
        self.chance = torch.tensor([_SHARES.get(str(plan.spec.setting), 1.0) for plan in self.plans])
        self.alphas = make_scheduler().alphas_cumprod

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Clean latents, noise, time steps, tokens and how much each place counts, n of each.

        The first third is seen with its captions, and the second third is the first without them.
        """
        pairs = batch // 3
        index = torch.multinomial(self.chance, batch - pairs, replacement=True, generator=generator)
        noise = torch.randn((2, batch - pairs, *self.mean.shape[1:]), generator=generator)
        # A root of a uniform number leans to 1: to high noise.
        t = (torch.rand(batch - pairs, generator=generator).pow(0.75) * 1000).long().clamp(max=999)
        twice = torch.cat([torch.arange(pairs), torch.arange(batch - pairs)])
        index, t, noise = index[twice], t[twice], noise[:, twice]
        clean = (self.mean[index].float() + self.std[index].float() * noise[0]) * self.scale
        tokens = self.tokens[index].clone()
        tokens[pairs : 2 * pairs] = self.empty[0]
        tokens[2 * pairs :][torch.rand(batch - 2 * pairs, generator=generator) < 0.1] = self.empty[0]
        return clean, noise[1], t, tokens, self.places[index].float()


def noised(clean: Tensor, noise: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Latents under noise and the v that tells them apart, for products of alphas (n, 1, 1, 1)."""
    return a.sqrt() * clean + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * clean


def error_of_answers(given: Tensor, v: Tensor, counted: Tensor) -> Tensor:
    """Squared error of the answers to a batch of `NoisedScenes`, and of the guided ones that its pairs give."""
    pairs = len(v) // 3
    with_caption, without = given[:pairs], given[pairs : 2 * pairs]
    guided = without + GUIDANCE * (with_caption - without)
    error, pull = counted * (given - v) ** 2, counted[:pairs] * (guided - v[:pairs]) ** 2
    return error.mean() + _PULL * pull.mean() * pairs / len(v)


def without_fused_attention(model: Denoiser) -> None:
    """Have a denoiser compute attention step by step.

    The fused kernels are slow to look back through on a processor: more than half of the time.
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
    look: tuple[int, Callable[[Denoiser, int], object]] | None = None,
) -> Denoiser:
    """v-prediction, high noise drawn more often, places of things counted more, captions dropped 10 % or more.

    Guidance multiplies what a caption changes by 7.5, and with it every error by which the two answers differ. So a
    third of the scenes is seen with and without the caption, and the guided answer is asked to be right as well.

    Layout is decided while there is almost only noise, where the usual weightings fade to nothing. Where things stand
    is counted as far as the noisy latents tell it: earlier, the extra weight would ask for more things than there are.
    """
    model = copy.deepcopy(denoiser).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    device = device_of(model)
    alphas = scenes.alphas.to(device)

    def error_of(clean: Tensor, noise: Tensor, t: Tensor, tokens: Tensor, place: Tensor) -> Tensor:
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, v = noised(clean, noise, a)
        text = model.text_encoder(tokens).last_hidden_state
        given = model.unet(noisy, t, text, return_dict=False)[0].float()
        return error_of_answers(given, v, 1 + a * (place - 1))

    compute = compiled(error_of) if quick else error_of
    if quick and device.type == "cpu":
        without_fused_attention(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        return compute(*(part.to(device) for part in scenes.draw(batch, generator)))

    return fit("unet", model, loss_of, Plan(steps, rate, warmup=100, decay=0.5), folder, look=look)
