"""Training of two detectors on renderings: the judge, and the reader, whose gradient trains the denoiser.

They have different initial weights. The denoiser learns from the reader, so the reader cannot judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.scenes.evaluation.judge import CELL, CLASSES, GRID, SETTING_CLASSES, Judge
from diffvis_widget.scenes.render import Sketch, sketch
from diffvis_widget.tracer import to_pixels

from .dataset import Dataset
from .loop import Plan, compiled, device_of, fit

# Settings in which objects are hard to see are drawn more often.
_READER_SHARES = {"night": 2.0, "sea": 1.5}


def _targets(scene: Sketch) -> tuple[Tensor, int]:
    """A grid (2 + 4 labels + 1, 12, 12): presence, offsets, class indices; and the setting's index."""
    grid = torch.zeros(3 + len(CLASSES), GRID, GRID)
    for thing, pose in zip(scene.things, scene.poses, strict=True):
        column, row = int(pose.x / CELL), int(pose.y / CELL)
        labels = [CLASSES[key].index(getattr(thing, key)) for key in CLASSES]
        grid[:, row, column] = torch.tensor([1.0, pose.x / CELL - column, pose.y / CELL - row, *labels])
    return grid, SETTING_CLASSES.index(scene.spec.setting)


def _errors(detector: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor, scenes: Iterable[Sketch]) -> Tensor:
    """The cross-entropy of each answer of a detector to images (n, 3, 96, 96), plus the error of the centres."""
    cells, setting = (answer.float() for answer in detector(images.contiguous(memory_format=torch.channels_last)))
    grids, settings = zip(*(_targets(scene) for scene in scenes), strict=True)
    target = torch.stack(grids).to(cells.device)
    here = target[:, 0] > 0
    answer, expected = cells.permute(0, 2, 3, 1)[here], target.permute(0, 2, 3, 1)[here]
    loss = 40 * F.binary_cross_entropy_with_logits(cells[:, 0], target[:, 0])
    loss = loss + F.l1_loss(answer[:, 1:3], expected[:, 1:3])
    groups = answer[:, 3:].split([len(names) for names in CLASSES.values()], dim=1)
    for k, logits in enumerate(groups):
        loss = loss + F.cross_entropy(logits, expected[:, 3 + k].long())
    return loss + F.cross_entropy(setting, torch.tensor(settings).to(setting.device))


def _blurred(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 3, 96, 96) reduced to 48 to 96 pixels and enlarged again."""
    side = int(torch.randint(48, 97, (1,), generator=generator))
    return F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=x.shape[-2:], mode="bilinear")


def _noisy(x: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Images (n, 3, 96, 96) with noise of a spread of 0 to `most`."""
    return x + most * torch.rand(len(x), 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)


def train_judge(judge: Judge, data: Dataset, folder: Path, steps: int, batch: int = 96, quick: bool = False) -> Judge:
    """Train the judge on renderings with slight noise and blur, because decoded images are never quite sharp.

    Args:
        judge: The network.
        data: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Images per step.
        quick: Compile the network.

    Returns:
        The moving average of the network.
    """
    scenes = [sketch(i, held_out=False) for i in range(len(data.captions))]
    judge = judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    detector = compiled(judge) if quick else judge

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(scenes), (batch,), generator=generator)
        x = _noisy(_blurred(data.pixels(index), generator), 0.06, generator)
        return _errors(detector, x.to(device_of(judge)), [scenes[i] for i in index.tolist()])

    return fit("judge", judge, loss_of, Plan(steps, 2e-3, warmup=100, decay=0.6, ema=0.995), folder)


@torch.no_grad()
def decode_noisy_latents(
    vae: AutoencoderKL, latents: tuple[Tensor, Tensor], folder: Path, count: int = 12_000
) -> NDArray[np.uint8]:
    """Decode the latents of the first scenes with noise of 0 to 0.4 of their spread; the result is stored.

    Args:
        vae: The autoencoder.
        latents: Mean and standard deviation of the latents of the training images.
        folder: Where `astray.npy` is stored.
        count: The largest number of images.

    Returns:
        uint8 (n, 96, 96, 3).
    """
    path = folder / "astray.npy"
    means = latents[0][:count]
    if path.exists() and len(stored := np.load(path)) == len(means):
        return stored
    generator = torch.Generator().manual_seed(0)
    spread = means.float().std()
    images: list[NDArray[np.uint8]] = []
    for part in means.float().split(50):
        z = cast(torch.FloatTensor, _noisy(part, 0.4 * float(spread), generator).to(device_of(vae)))
        images.append(to_pixels(vae.decode(z, return_dict=False)[0]))
    np.save(path, np.concatenate(images))
    return np.concatenate(images)


def train_reader(
    vae: AutoencoderKL,
    latents: tuple[Tensor, Tensor],
    data: Dataset,
    folder: Path,
    steps: int,
    batch: int = 48,
    quick: bool = False,
) -> None:
    """Train the reader on renderings and as many images decoded from noisy latents (`decode_noisy_latents`).

    Images of a denoiser are imperfect too; the gradients of a detector that never saw such images are of little use
    there.

    Args:
        vae: The autoencoder.
        latents: Mean and standard deviation of the latents of the training images.
        data: The training scenes.
        folder: Checkpoints and log.
        steps: Number of steps.
        batch: Images per step.
        quick: Compile the network.
    """
    astray = decode_noisy_latents(vae, latents, folder)
    scenes = [sketch(i, held_out=False) for i in range(len(data.captions))]
    chance = torch.tensor([_READER_SHARES.get(str(scene.spec.setting), 1.0) for scene in scenes])
    reader = Judge().to(device_of(vae), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    detector = compiled(reader) if quick else reader

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        crisp = torch.multinomial(chance, batch // 2, replacement=True, generator=generator)
        off = torch.multinomial(chance[: len(astray)], batch - batch // 2, replacement=True, generator=generator)
        x = torch.cat([data.pixels(crisp), Dataset(astray, data.captions).pixels(off)])
        if step % 2:
            x = _blurred(x, generator)
        x = _noisy(x, 0.1, generator)
        return _errors(detector, x.to(device_of(reader)), [scenes[i] for i in torch.cat([crisp, off]).tolist()])

    fit("reader", reader, loss_of, Plan(steps, 2e-3, warmup=100, decay=0.6, ema=0.995), folder)


def load_reader(folder: Path) -> Judge:
    """Load the reader from its checkpoint.

    Args:
        folder: Where it is.

    Returns:
        The network, in evaluation mode.

    Raises:
        FileNotFoundError: There is no checkpoint.
    """
    path = folder / "reader.pt"
    if not path.exists():
        raise FileNotFoundError(f"no reader in {folder}: run the reader stage first")
    reader = Judge()
    reader.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    return reader.eval()
