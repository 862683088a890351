"""Build networks while other threads use torch.

Three defaults of torch belong to the whole process, not to a thread:

- the default dtype, which libraries change while they load a network in half precision
  (https://github.com/pytorch/pytorch/issues/29720);
- the default random generator, from which layers draw the initial values that a checkpoint then replaces;
- ``torch.nn.Module.register_parameter``, which ``accelerate.init_empty_weights`` replaces while it is active, so that
  networks built by any thread lose their values (https://github.com/huggingface/diffusers/issues/4296).

The two functions here build a network correctly whatever another thread does to these defaults, and change none of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

Network = TypeVar("Network", bound="nn.Module")


def build_with_weights(
    build: Callable[[], Network], weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor] | None = None
) -> Network:
    """Build a network in float32 on the CPU and fill it from a state dict.

    The network is built on the device "meta", which draws no random numbers. ``Module.to_empty`` then allocates its
    memory and ``load_state_dict`` copies into it. Neither calls ``register_parameter``; ``load_state_dict`` with
    ``assign=True`` would, and accelerate could then move the weights back to "meta".

    Args:
        build: Returns the network, without weights.
        weights: The state dict, in any floating-point dtype. Its names must be exactly those of the network.
        buffers: Values of the buffers that are not in the state dict (non-persistent ones), by name.

    Returns:
        The network, in float32, in evaluation mode.

    Raises:
        RuntimeError: ``weights`` does not fit the network.
        ValueError: ``buffers`` are not exactly the non-persistent buffers of the network.
    """
    import torch

    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu").float()
    network.load_state_dict(weights)
    buffers = buffers or {}
    missing = {name for name, _ in network.named_buffers()} - set(network.state_dict())
    if missing != set(buffers):
        raise ValueError(
            f"buffers must have values for {sorted(missing)} of {type(network).__name__}, got {sorted(buffers)}"
        )
    for name, values in buffers.items():
        network.get_buffer(name).copy_(values)
    return network.eval()


@contextmanager
def thread_local_defaults() -> Iterator[None]:
    """Create float32 tensors and draw from a private generator, in this thread only.

    Use it around code of other libraries that builds a network and loads its weights. Calls that name a dtype or a
    generator keep it.

    Yields:
        Nothing.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    creators = {torch.empty, torch.ones, torch.zeros, torch.rand, torch.randn}
    fillers = {torch.Tensor.normal_, torch.Tensor.uniform_}
    fillers |= {torch.nn.init.normal_, torch.nn.init.uniform_, torch.nn.init.kaiming_uniform_}
    random_functions = {torch.rand, torch.randn, *fillers}
    generator = torch.Generator()

    class ThreadLocalDefaults(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = dict(kwargs or {})
            if func in creators and kwargs.get("dtype") is None:
                kwargs["dtype"] = torch.float32
            if func in random_functions and kwargs.get("generator") is None:
                target = kwargs.get("tensor", *args[:1]) if func in fillers else None
                device = kwargs.get("device") if target is None else target.device
                if torch.device(device or torch.get_default_device()) == generator.device:
                    kwargs["generator"] = generator
            return func(*args, **kwargs)

    with ThreadLocalDefaults():
        yield
