"""Training of the judge, on renderings alone."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffvis_widget.scenes.judge import CELL, CLASSES, GRID, SETTING_CLASSES, Judge
from diffvis_widget.scenes.render import Sketch, sketch
from diffvis_widget.scenes.training.dataset import Dataset
from diffvis_widget.scenes.training.loop import Plan, compiled, device_of, fit


def _targets(scene: Sketch) -> tuple[Tensor, int]:
    """A grid (2 + 4 labels + 1, 12, 12): presence, offsets, class indices; and the setting's index."""
    grid = torch.zeros(3 + len(CLASSES), GRID, GRID)
    for thing, pose in zip(scene.things, scene.poses, strict=True):
        column, row = int(pose.x / CELL), int(pose.y / CELL)
        labels = [CLASSES[key].index(getattr(thing, key)) for key in CLASSES]
        grid[:, row, column] = torch.tensor([1.0, pose.x / CELL - column, pose.y / CELL - row, *labels])
    return grid, SETTING_CLASSES.index(scene.spec.setting)


def _errors(cells: Tensor, setting: Tensor, target: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of every answer, and how far the centres are off."""
    here = target[:, 0] > 0
    answer, wanted = cells.permute(0, 2, 3, 1)[here], target.permute(0, 2, 3, 1)[here]
    loss = 40 * F.binary_cross_entropy_with_logits(cells[:, 0], target[:, 0])
    loss = loss + F.l1_loss(answer[:, 1:3], wanted[:, 1:3])
    groups = answer[:, 3:].split([len(names) for names in CLASSES.values()], dim=1)
    for k, logits in enumerate(groups):
        loss = loss + F.cross_entropy(logits, wanted[:, 3 + k].long())
    return loss + F.cross_entropy(setting, truth)


def train_judge(judge: Judge, data: Dataset, folder: Path, steps: int, batch: int = 96, quick: bool = False) -> Judge:
    """Learn from renderings under slight noise and blur: decoded pictures are never quite crisp."""
    scenes = [sketch(i, held_out=False) for i in range(len(data.captions))]
    judge = judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    look = compiled(judge) if quick else judge

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        index = torch.randint(len(scenes), (batch,), generator=generator)
        x = data.pixels(index)
        side = int(torch.randint(48, 97, (1,), generator=generator))
        x = F.interpolate(F.interpolate(x, size=(side, side), mode="area"), size=x.shape[-2:], mode="bilinear")
        x = x + 0.06 * torch.rand(batch, 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
        grids, settings = zip(*(_targets(scenes[i]) for i in index.tolist()), strict=True)
        device = device_of(judge)
        cells, setting = look(x.to(device, memory_format=torch.channels_last))
        return _errors(cells.float(), setting.float(), torch.stack(grids).to(device), torch.tensor(settings).to(device))

    return fit("judge", judge, loss_of, Plan(steps, 2e-3, warmup=100, decay=0.6, ema=0.995), folder)
