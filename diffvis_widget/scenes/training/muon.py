"""The Muon optimizer for hidden matrices: momentum whose update is made nearly orthogonal.

K. Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the step size of Liu et al. 2025 (arXiv 2502.16982,
eq. 4), which lets one learning rate serve Muon and AdamW. torch.optim.Muon takes no convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon serves: linear and convolution kernels with at least 16 inputs and outputs."""
    kernels = (m.weight for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    return [w for w in kernels if isinstance(w, nn.Parameter) and min(w.shape[0], w.shape[1]) >= 16]


def _orthogonal(matrix: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest orthogonal matrix (n, m).

    Each step multiplies x by a polynomial of its Gram matrix. All of them are gathered in one small square matrix, so
    that the long side is met only at the beginning and at the end.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    product = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(5):
        factor = torch.addmm(b * gram, gram, gram, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per matrix; convolution kernels count as (out, in * k * k)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(p)
                velocity = state["velocity"].lerp_(p.grad, 1 - group["momentum"])
                push = p.grad.lerp(velocity, group["momentum"]).flatten(1)
                size = 0.2 * max(push.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(_orthogonal(push).view_as(p), alpha=-group["lr"] * size)
