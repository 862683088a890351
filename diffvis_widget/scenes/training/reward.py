"""The last stage of the denoiser: it generates images, and a detector's gradient corrects them.

The usual loss measures single noise predictions on the way from a scene. Whether a sequence of guided predictions ends
in what the caption states, or whether a faint shape in the dark is the right one, weighs next to nothing in it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from diffvis_widget.scenes.architecture import make_scheduler
from diffvis_widget.scenes.evaluation.judge import Judge

from .caption_loss import missing_content_loss
from .loop import Plan, compiled, device_of, fit
from .stages import GUIDANCE, Denoiser, NoisedScenes, denoising_loss, noised, without_fused_attention

# How often scenes are generated, relative to the world, by setting and by relation: more often where the model fails.
_BY_SETTING = {"night": 2.0, "sea": 1.5, "sunset": 1.2}
_BY_RELATION = {"and": 1.6, "None": 0.6}
_ANY_RELATION = 1.3
# Fewest and most denoising steps, and how many of them receive the gradient.
_MIN_STEPS, _MAX_STEPS, _TRAINED_STEPS = 10, 14, 5
# Noise on the latents that the detector sees, so that its verdict is robust.
_LATENT_NOISE = 0.12
# The longest gradient of an image, and the weight of all of them beside the usual loss: about twice it, at first.
_MAX_GRADIENT, _WEIGHT = 4.0, 0.012


def sampling_coefficients(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The linear coefficients of first-order DPM-Solver++ in v: z' = keep z + add v.

    Lu et al. 2022, arXiv 2211.01095, eq. 9, without extrapolation.

    Args:
        steps: Number of steps.

    Returns:
        Time steps, int64 (steps,); the coefficients keep and add, float32 (steps,); and the factor by which each
        prediction enters the final latents while all others are held, float32 (steps,).
    """
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    alphas = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)]).double()
    signal, noise = alphas.sqrt(), (1 - alphas).sqrt()
    keep = signal[1:] * signal[:-1] + noise[1:] * noise[:-1]
    add = noise[1:] * signal[:-1] - signal[1:] * noise[:-1]
    reach = add * torch.stack([keep[i + 1 :].prod() for i in range(steps)])
    return scheduler.timesteps.clone(), keep.float(), add.float(), reach.float()


def train_reward(
    denoiser: Denoiser,
    vae: AutoencoderKL,
    reader: Judge,
    scenes: NoisedScenes,
    folder: Path,
    steps: int,
    batch: int = 24,
    beside: int = 48,
    rate: float = 5e-4,
    quick: bool = False,
) -> Denoiser:
    """Follow the gradient of a detector on generated images, together with scenes of the usual loss.

    The gradient of the final latents is passed to the predictions of some steps with their inputs held (DRTune: Wu et
    al. 2024, arXiv 2405.00760), so that no more than one step is differentiated at a time. Of the two predictions that
    guidance combines, only the conditional one receives it.

    Args:
        denoiser: U-Net and text encoder.
        vae: The autoencoder.
        reader: The detector, applied to decoded images.
        scenes: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Generated images per step.
        beside: Scenes of the usual loss per step.
        rate: The highest learning rate.
        quick: Compile the networks.

    Returns:
        The moving average of the denoiser.
    """
    model = copy.deepcopy(denoiser).to(memory_format=torch.channels_last).requires_grad_(True)  # pyright: ignore[reportCallIssue]
    device = device_of(model)
    vae = copy.deepcopy(vae).to(memory_format=torch.channels_last).requires_grad_(False).eval()  # pyright: ignore[reportCallIssue]
    reader = copy.deepcopy(reader).to(memory_format=torch.channels_last).requires_grad_(False).eval()  # pyright: ignore[reportCallIssue]
    alphas = scenes.alphas.to(device)
    specs = [plan.spec for plan in scenes.plans]
    chance = torch.tensor(
        [_BY_SETTING.get(str(s.setting), 1.0) * _BY_RELATION.get(str(s.relation), _ANY_RELATION) for s in specs]
    )

    def guided_prediction(z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        both = model.unet(z.repeat(2, 1, 1, 1), t.repeat(2), text, return_dict=False)[0].float()
        conditional, unconditional = both.chunk(2)
        return unconditional + GUIDANCE * (conditional - unconditional)

    def detect(z: Tensor) -> tuple[Tensor, Tensor]:
        image = vae.decode(cast(torch.FloatTensor, z / scenes.scale), return_dict=False)[0]
        return reader(image.clamp(-1, 1))

    def loss_of_predictions(
        inputs: Tensor, when: Tensor, captions: Tensor, push: Tensor,
        clean: Tensor, noise: Tensor, t: Tensor, tokens: Tensor, place: Tensor,
    ) -> Tensor:  # fmt: skip
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, v = noised(clean, noise, a)
        text = model.text_encoder(torch.cat([tokens, captions])).last_hidden_state
        text = torch.cat([text[:beside], text[beside:].repeat(_TRAINED_STEPS, 1, 1)])
        predictions = model.unet(torch.cat([noisy, inputs]), torch.cat([t, when]), text, return_dict=False)[0].float()
        usual = denoising_loss(predictions[:beside], v, 1 + a * (place - 1))
        return usual + _WEIGHT * (predictions[beside:] * push).sum()

    predict = compiled(guided_prediction) if quick else guided_prediction
    detector = compiled(detect) if quick else detect
    compute = compiled(loss_of_predictions) if quick else loss_of_predictions
    if quick and device.type == "cpu":
        without_fused_attention(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.multinomial(chance, batch, replacement=True, generator=generator)
        captions = scenes.tokens[index].to(device)
        count = int(torch.randint(_MIN_STEPS, _MAX_STEPS + 1, (1,), generator=generator))
        timesteps, keep, add, reach = sampling_coefficients(count)
        z = torch.randn((batch, *scenes.mean.shape[1:]), generator=generator).to(device)
        inputs: list[Tensor] = []
        with torch.no_grad():
            prompts, empty = (model.text_encoder(x.to(device)).last_hidden_state for x in (captions, scenes.empty))
            text = torch.cat([prompts, empty.expand_as(prompts)])
            for i, t in enumerate(timesteps):
                inputs.append(z)
                z = keep[i] * z + add[i] * predict(z, t.expand(batch).to(device), text)
        z.requires_grad_(True)
        cells, settings = detector(z + _LATENT_NOISE * torch.randn(z.shape, generator=generator).to(device))
        missing = missing_content_loss(cells.float(), settings.float(), [specs[i] for i in index.tolist()])
        (gradient,) = torch.autograd.grad(missing.sum(), z)
        gradient *= _MAX_GRADIENT / gradient.flatten(1).norm(dim=1).clamp(min=_MAX_GRADIENT).view(-1, 1, 1, 1)

        trained = torch.stack(
            [torch.randperm(count, generator=generator)[:_TRAINED_STEPS] for _ in range(batch)]
        ).T.flatten()
        image_index = torch.arange(batch).repeat(_TRAINED_STEPS)
        weight = GUIDANCE * reach[trained] * count / (_TRAINED_STEPS * batch)
        push = gradient[image_index] * weight.view(-1, 1, 1, 1).to(device)
        usual = (part.to(device) for part in scenes.draw(beside, generator))
        return compute(torch.stack(inputs)[trained, image_index], timesteps[trained].to(device), captions, push, *usual)

    return fit("reward", model, loss_of, Plan(steps, rate, warmup=10, decay=0.5, ema=0.97), folder)
