"""How many operations a traced step adds: on a GPU each is a kernel launch, and their number decides the cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffvis_widget.tracer import Tracer
from tests import pipelines

# operations that only look at the same memory in another way
VIEWS = (
    *("view", "_unsafe_view", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach"),
    *(
        "alias",
        "unbind",
        "split",
        "t",
        "as_strided",
        "split_with_sizes",
        "lift_fresh",
        "empty",
        "empty_like",
        "new_empty",
    ),
)


class Counting(TorchDispatchMode):
    """Counts ATen operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name not in VIEWS:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def count(pipe: Any, steps: int) -> int:
    with Counting() as counting:
        pipe(
            "a red circle", num_inference_steps=steps, output_type="latent", generator=torch.Generator().manual_seed(0)
        )
    return counting.seen.total()


def test_few_operations_per_step() -> None:
    # the sixteen sites of Stable Diffusion 1.5 on its four grids
    pipe = pipelines.stable_diffusion(
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(16, 32, 32, 32),
        attention_head_dim=4,
        layers_per_block=2,
    )
    plain = count(pipe, 4) - count(pipe, 3)
    with Tracer(pipe) as tracer:
        traced = count(pipe, 4) - count(pipe, 3)
    assert len(tracer.traces[0].layers) == 16
    assert len({layer.grid for layer in tracer.traces[0].layers}) == 4
    # six per grid; then all maps laid together, and what the step gave copied; about as many to refine them
    assert traced - plain <= 55
