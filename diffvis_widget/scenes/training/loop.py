"""The training loop of all stages: seeded, resumable, with an exponential moving average and a log of the loss."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffvis_widget._compat.torch_bfloat16 import supports_bfloat16

from .muon import Muon, hidden_matrices

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Plan:
    """Length and learning rate of a stage.

    The learning rate rises over the first `warmup` steps, stays, and falls to zero as a half cosine over the last
    `decay` share of `steps`.

    Attributes:
        steps: Number of steps.
        rate: The highest learning rate.
        warmup: Number of steps.
        decay: Share of the steps, 0..1.
        ema: Decay of the moving average per step, 0..1.
    """

    steps: int
    rate: float
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.999

    def rate_at(self, step: int) -> float:
        """The learning rate of a step.

        Args:
            step: The step.

        Returns:
            The rate.
        """
        falling = (step - self.steps * (1 - self.decay)) / max(self.steps * self.decay, 1)
        fall = 0.5 * (1 + math.cos(math.pi * min(max(falling, 0.0), 1.0)))
        return self.rate * min((step + 1) / self.warmup, 1.0) * fall


Result = TypeVar("Result")


def compiled(compute: Callable[..., Result]) -> Callable[..., Result]:
    """Compile a function that multiplies in bfloat16, where the device can, and sums in float32.

    Networks this small spend much time between multiplications: a processor core with bfloat16 processes nearly twice
    as many images. It needs a C++ compiler, and minutes before the first step.

    Args:
        compute: The function; its first argument is a tensor.

    Returns:
        The compiled function.
    """
    # Without support a processor computes bfloat16 through float32, several times slower.
    able = supports_bfloat16()

    def in_half(*args: Tensor) -> Result:
        device = args[0].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=able or device != "cpu"):
            return compute(*args)

    return torch.compile(in_half)


def device_of(module: nn.Module) -> torch.device:
    """The device of a network, to which its batches have to be moved.

    Args:
        module: The network.

    Returns:
        The device.
    """
    return next(module.parameters()).device


def rank_and_size() -> tuple[int, int]:
    """The rank of this process and the number of processes that train together.

    Returns:
        (0, 1) where there is a single one.
    """
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _share_gradients(module: nn.Module, processes: int) -> None:
    """Averages the gradients over all processes, in one message."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape) / processes)


def fit(
    name: str,
    module: Module,
    loss_of: Callable[[torch.Generator, int], Tensor],
    plan: Plan,
    folder: Path,
    *,
    weight_decay: float = 0.01,
    checkpoint_seconds: float = 120.0,
    evaluation: tuple[int, Callable[[Module, int], object]] | None = None,
) -> Module:
    """Train a network and return its moving average.

    Muon updates the hidden matrices, AdamW the rest. An interrupted run resumes from `folder/<name>.pt`;
    `folder/<name>.jsonl` is the log. The generator is seeded by the step, so an interrupted run sees the same batches
    as an uninterrupted one. Under torchrun each process draws its own batches, gradients are averaged, and the first
    process writes.

    Args:
        name: Name of the stage.
        module: The network.
        loss_of: Returns the loss from a generator and the step.
        plan: Length and learning rate.
        folder: Checkpoints and log.
        weight_decay: Weight decay of Muon.
        checkpoint_seconds: Seconds between checkpoints.
        evaluation: (n, function): the function is called with the moving average and the step after every n steps.

    Returns:
        The moving average.
    """
    rank, processes = rank_and_size()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.pt"
    average = copy.deepcopy(module).requires_grad_(False)
    optimizers = _optimizers(module, plan.rate, weight_decay)
    start = _restored(path, module, average, optimizers) if path.exists() else 0

    def save(step: int) -> None:
        state = {
            "module": module.state_dict(),
            "average": average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "step": step,
        }
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)

    module.train()
    smooth, clock, since, saved = None, time.monotonic(), start, time.monotonic()
    for step in range(start, plan.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = plan.rate_at(step)
        generator = torch.Generator().manual_seed(step * processes + rank)
        loss = loss_of(generator, step)
        module.zero_grad(set_to_none=True)
        loss.backward()
        if processes > 1:
            _share_gradients(module, processes)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        # At first the average follows closely, or it would remember the initial weights.
        _follow(average, module, 1 - min(plan.ema, (step + 1) / (step + 10)))
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if rank > 0:
            continue
        if (step + 1) % 50 == 0:
            row = {"step": step + 1, "loss": round(smooth, 5), "rate": plan.rate_at(step)}
            row["seconds_per_step"] = round((time.monotonic() - clock) / (step + 1 - since), 3)
            clock, since = time.monotonic(), step + 1
            with (folder / f"{name}.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(name, row, flush=True)
        if time.monotonic() - saved > checkpoint_seconds:
            save(step + 1)
            saved = time.monotonic()
        if evaluation is not None and (step + 1) % evaluation[0] == 0:
            evaluation[1](average, step + 1)
    if rank == 0:
        save(max(plan.steps, start))
    return average


def _optimizers(module: nn.Module, rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the rest."""
    matrices = hidden_matrices(module)
    of_muon = {id(p) for p in matrices}
    others = [p for p in module.parameters() if id(p) not in of_muon]
    return [
        Muon(matrices, lr=rate, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def _restored(path: Path, module: nn.Module, average: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> int:
    """Restores all of them from a checkpoint, and returns the number of its steps."""
    state = torch.load(path, map_location=device_of(module), weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved_state)
    return int(state["step"])


def _follow(average: nn.Module, module: nn.Module, share: float) -> None:
    """Moves the parameters of the average by a share of their distance from the module's; buffers are copied."""
    with torch.no_grad():
        for mean, value in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, share)
        for mean, value in zip(average.buffers(), module.buffers(), strict=True):
            mean.copy_(value)
