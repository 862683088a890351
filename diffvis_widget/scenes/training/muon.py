"""The Muon optimizer for hidden matrices: momentum whose update is made nearly orthogonal.

K. Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the step size of Liu et al. 2025 (arXiv 2502.16982, eq.
4), with which Muon and AdamW share a learning rate. torch.optim.Muon takes no convolutions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon updates: kernels of linear layers and convolutions with at least 16 inputs and outputs.

    Args:
        module: The network.

    Returns:
        The parameters.
    """
    kernels = (m.weight for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    return [w for w in kernels if isinstance(w, nn.Parameter) and min(w.shape[0], w.shape[1]) >= 16]


def _orthogonal(matrices: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest orthogonal matrix, for each of a stack (k, n, m).

    Each step multiplies x by a polynomial of its Gram matrix. All polynomials are gathered in one small square matrix,
    so that the long side is multiplied only at the beginning and at the end.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    gram = x @ x.mT
    product = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device).expand_as(gram)
    for _ in range(5):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per matrix; convolution kernels count as (out, in * k * k).

    Args:
        params: The parameters, of at least two axes.
        lr: Learning rate.
        momentum: Decay of the momentum per step, 0..1.
        weight_decay: Weight decay.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update each matrix that has a gradient.

        Args:
            closure: Not used.
        """
        for group in self.param_groups:
            # Matrices of one shape are stacked: single ones are too small to keep a processor busy.
            shapes: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(p)
                velocity = state["velocity"].lerp_(p.grad, 1 - group["momentum"])
                push = p.grad.lerp(velocity, group["momentum"]).flatten(1)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                shapes[push.shape].append((p, push))
            for shape, members in shapes.items():
                size = 0.2 * max(shape) ** 0.5
                pushes = _orthogonal(torch.stack([push for _, push in members]))
                for (p, _), push in zip(members, pushes, strict=True):
                    p.add_(push.view_as(p), alpha=-group["lr"] * size)
