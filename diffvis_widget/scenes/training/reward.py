"""The denoiser's last stage: it paints by itself, a detector looks, and it is told what its captions lack.

The usual error asks for the right noise prediction on the way from a scene. Whether guided answers, one after another,
end in what was asked for, and whether a faint shape in the dark is the right one, weighs next to nothing in it.
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

from .loop import Plan, compiled, device_of, fit
from .stages import GUIDANCE, Denoiser, NoisedScenes, error_of_answers, noised, without_fused_attention
from .wishes import wishes

# How much oftener than they are drawn scenes are painted, by setting and by relation: what fails most teaches most.
_BY_SETTING = {"night": 2.0, "sea": 1.5, "sunset": 1.2}
_BY_RELATION = {"and": 1.6, "None": 0.6}
_ANY_RELATION = 1.3
# Steps of a painting, at least and at most, and how many of them are told.
_FEWEST, _MOST, _TOLD = 10, 14, 5
# Noise on the latents that are looked at: what is asked for shall not hang on a hair.
_SHAKE = 0.12
# The longest gradient of one picture, and what all of them count beside the usual error: about twice it, at first.
_LONGEST, _COUNTED = 4.0, 0.012


def walk(steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Time steps, int64 (steps,), and, float32, what the scheduler keeps of the latents and adds of the answer in each.

    First-order DPM-Solver++ in v: z' = keep z + add v (Lu et al. 2022, arXiv 2211.01095, eq. 9, without extrapolation).
    Last: what of each answer is in the last latents, if all other answers stay.
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
    """Follow a detector's gradient from what the denoiser paints, with `beside` scenes of the usual error.

    The gradient of the last latents is taken to the answers of some steps with their inputs held (DRTune: Wu et al.
    2024, arXiv 2405.00760), so no step is looked back through more than once; of the two answers that guidance is
    made of, the one to the caption is told. `reader` looks at the decoded picture.
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

    def guided_answer(z: Tensor, t: Tensor, text: Tensor) -> Tensor:
        both = model.unet(z.repeat(2, 1, 1, 1), t.repeat(2), text, return_dict=False)[0].float()
        with_caption, without = both.chunk(2)
        return without + GUIDANCE * (with_caption - without)

    def looked_at(z: Tensor) -> tuple[Tensor, Tensor]:
        picture = vae.decode(cast(torch.FloatTensor, z / scenes.scale), return_dict=False)[0]
        return reader(picture.clamp(-1, 1))

    def loss_of_answers(
        inputs: Tensor, when: Tensor, captions: Tensor, push: Tensor,
        clean: Tensor, noise: Tensor, t: Tensor, tokens: Tensor, place: Tensor,
    ) -> Tensor:  # fmt: skip
        a = alphas[t].view(-1, 1, 1, 1)
        noisy, v = noised(clean, noise, a)
        text = model.text_encoder(torch.cat([tokens, captions])).last_hidden_state
        text = torch.cat([text[:beside], text[beside:].repeat(_TOLD, 1, 1)])
        given = model.unet(torch.cat([noisy, inputs]), torch.cat([t, when]), text, return_dict=False)[0].float()
        usual = error_of_answers(given[:beside], v, 1 + a * (place - 1))
        return usual + _COUNTED * (given[beside:] * push).sum()

    answer = compiled(guided_answer) if quick else guided_answer
    look = compiled(looked_at) if quick else looked_at
    compute = compiled(loss_of_answers) if quick else loss_of_answers
    if quick and device.type == "cpu":
        without_fused_attention(model)

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.multinomial(chance, batch, replacement=True, generator=generator)
        captions = scenes.tokens[index].to(device)
        count = int(torch.randint(_FEWEST, _MOST + 1, (1,), generator=generator))
        timesteps, keep, add, reach = walk(count)
        z = torch.randn((batch, *scenes.mean.shape[1:]), generator=generator).to(device)
        inputs: list[Tensor] = []
        with torch.no_grad():
            given, empty = (model.text_encoder(x.to(device)).last_hidden_state for x in (captions, scenes.empty))
            text = torch.cat([given, empty.expand_as(given)])
            for i, t in enumerate(timesteps):
                inputs.append(z)
                z = keep[i] * z + add[i] * answer(z, t.expand(batch).to(device), text)
        z.requires_grad_(True)
        cells, settings = look(z + _SHAKE * torch.randn(z.shape, generator=generator).to(device))
        lacking = wishes(cells.float(), settings.float(), [specs[i] for i in index.tolist()])
        (gradient,) = torch.autograd.grad(lacking.sum(), z)
        gradient *= _LONGEST / gradient.flatten(1).norm(dim=1).clamp(min=_LONGEST).view(-1, 1, 1, 1)

        told = torch.stack([torch.randperm(count, generator=generator)[:_TOLD] for _ in range(batch)]).T.flatten()
        who = torch.arange(batch).repeat(_TOLD)
        weight = GUIDANCE * reach[told] * count / (_TOLD * batch)
        push = gradient[who] * weight.view(-1, 1, 1, 1).to(device)
        usual = (part.to(device) for part in scenes.draw(beside, generator))
        return compute(torch.stack(inputs)[told, who], timesteps[told].to(device), captions, push, *usual)

    return fit("reward", model, loss_of, Plan(steps, rate, warmup=10, decay=0.5, ema=0.97), folder)
