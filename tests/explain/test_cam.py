"""DF-CAM against finite differences in float64, and that it leaves nothing behind."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffvis_widget import explain
from diffvis_widget.explain.image_stream import ImageStream
from diffvis_widget.tracer import Tracer, denoiser, find_live_call, prompt_sequence, trace
from diffvis_widget.tracer.families import find_family
from diffvis_widget.traces.resize import resize
from tests import pipelines
from tests.tracer.families.test_families import trace_of

PROMPT = "a red circle above a blue square"
LAYERS = {  # one of each kind, with its grid
    "down_blocks.0.attentions.0": (16, 16),
    "down_blocks.0.downsamplers.0": (8, 8),
    "mid_block.resnets.1": (4, 4),
    "up_blocks.0.upsamplers.0": (8, 8),
}


class Probe:
    """The denoiser of a step in float64, from the arguments that the pipeline gave it, for one image."""

    def __init__(self, run: Any, step: int) -> None:
        call, _ = find_live_call(run)
        assert call.denoiser is not None
        self.model = copy.deepcopy(call.denoiser).double()
        (evaluation,) = call.steps[step].evaluations
        arguments = evaluation.arguments
        self.arguments = {
            "timestep": arguments["timestep"],
            "encoder_hidden_states": arguments["encoder_hidden_states"],
        }
        self.arguments["encoder_hidden_states"] = self.arguments["encoder_hidden_states"].double()
        self.rows = evaluation.batch
        self.latents = torch.from_numpy(run.latents[step][None]).double()

    def run(self, rows: list[int]) -> Tensor:
        text = self.arguments["encoder_hidden_states"][rows]
        latents = self.latents.repeat(len(rows), 1, 1, 1)
        with torch.no_grad():
            return self.model(latents, self.arguments["timestep"], text, return_dict=False)[0]

    def totals(self, name: str, row: int, change: Tensor) -> Tensor:
        """The y of one row, (n,), with constants (n, K) added to every position of the layer's activations."""
        layer = self.model.get_submodule(name)
        handle = layer.register_forward_hook(lambda module, args, output: _added(output, change))
        result = self.run([row] * len(change)).sum(dim=(1, 2, 3))
        handle.remove()
        return result

    def activations(self, name: str) -> Tensor:
        outputs: list[Tensor] = []
        layer = self.model.get_submodule(name)
        handle = layer.register_forward_hook(
            lambda module, args, output: outputs.append(output if isinstance(output, Tensor) else output[0])
        )
        self.run(list(range(self.rows)))
        handle.remove()
        return outputs[0]


def _added(output: Any, change: Tensor) -> Any:
    if isinstance(output, Tensor):
        return output + change[..., None, None]
    return (output[0] + change[..., None, None], *output[1:])


def reference(run: Any, step: int, name: str, guidance: float) -> np.ndarray:
    """ReLU(sum_k alpha_k A_k); adding e to all of channel k changes y by e * positions * alpha_k."""
    probe = Probe(run, step)
    activations = probe.activations(name)
    rows, channels, height, width = activations.shape
    step_size = 1e-4
    change = step_size * torch.eye(channels, dtype=torch.float64)
    slopes = [probe.totals(name, row, change) - probe.totals(name, row, -change) for row in range(rows)]
    alpha = torch.stack(slopes) / (2 * step_size * height * width)
    if rows == 2:
        activations = activations[0] + guidance * (activations[1] - activations[0])
        alpha = alpha[0] + guidance * (alpha[1] - alpha[0])
    else:
        activations, alpha = activations[0], alpha[0]
    return np.maximum((alpha[:, None, None] * activations).sum(dim=0).numpy(), 0)


@pytest.mark.parametrize(("guidance", "layers"), [(4.0, list(LAYERS)), (1.0, ["mid_block.resnets.1"])])
def test_against_finite_differences(guidance: float, layers: list[str]) -> None:
    run = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=2, guidance_scale=guidance)
    saliency = explain.df_cam(run, 1, layers)
    assert list(saliency.layers) == layers
    for name in layers:
        expected = reference(run, 1, name, guidance)
        assert expected.shape == LAYERS[name]
        shown = resize(expected.astype(np.float32), (16, 16))
        np.testing.assert_allclose(saliency.layers[name], shown, atol=1e-3 * max(shown.max(), 1e-6))
    scaled = [(heat - heat.min()) / np.ptp(heat) if np.ptp(heat) else heat * 0 for heat in saliency.layers.values()]
    np.testing.assert_allclose(saliency.map, np.mean(scaled, axis=0), atol=1e-6)


def test_all_layers_of_a_unet() -> None:
    pipe = pipelines.stable_diffusion()
    names = list(find_family(pipe)[0].cam_layers(pipe.unet))
    for kind in ("attentions", "resnets", "downsamplers", "upsamplers"):
        lists = [module for name, module in pipe.unet.named_modules() if name.endswith(kind) and module]
        assert sum(kind in name for name in names) == sum(len(module) for module in lists)
    assert [name.split(".")[0] for name in names] == sorted(
        (name.split(".")[0] for name in names), key=["down_blocks", "mid_block", "up_blocks"].index
    )
    saliency = explain.df_cam(trace(pipe, PROMPT, seed=1, num_inference_steps=1), 0)
    assert list(saliency.layers) == names
    assert all(layer_map.shape == (16, 16) and layer_map.min() >= 0 for layer_map in saliency.layers.values())
    assert (saliency.stderr, saliency.masks_used) == (None, 0)


# one of each way in which blocks hold the image
TRANSFORMERS = [
    "sd3",
    "flux-two-calls",
    "flux-kontext",
    "aura-flow",
    "lumina2",
    "z-image",
    "z-image-omni",
    "omnigen",
    "hidream",
    "pixart-alpha",
]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformers_image_is_where_its_blocks_have_it(name: str) -> None:
    """A change of one square of the latents shows most at its own position of the first block's image."""
    run = trace_of(name)[1].trace
    saliency = explain.df_cam(run, -1)
    assert all(layer.shape == run.latents.shape[2:] and layer.max() > 0 for layer in saliency.layers.values())
    probe = denoiser(run, -1)
    height, width = run.latents.shape[2:]
    image = ImageStream(probe.family, (height, width), probe.joined, prompt_sequence(probe).layout)
    first = next(iter(probe.family.cam_layers(probe.module).values()))
    activations: list[Tensor] = []
    handle = first.register_forward_hook(lambda module, args, output: activations.append(image.lay(image.pick(output))))
    changed = probe.latents.clone()
    changed[:, :, height // 2 : height // 2 + 2, width - 2 :] += 10.0
    for latents in (probe.latents, changed):
        probe(latents)
    handle.remove()
    before, after = (
        torch.cat(part)[0] for part in (activations[: len(activations) // 2], activations[len(activations) // 2 :])
    )
    y, x = divmod(int((after - before).norm(dim=0).argmax()), before.shape[2])
    side = probe.family.patch_size
    assert y in range(height // 2 // side, (height // 2 + 1) // side + 1)
    assert x in range((width - 2) // side, width // side)


@pytest.mark.parametrize("frozen", [True, False])
def test_it_leaves_nothing_behind(frozen: bool) -> None:
    pipe = pipelines.stable_diffusion()
    pipe.unet.requires_grad_(not frozen)
    with torch.inference_mode(), Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=1, generator=torch.Generator().manual_seed(1))
    hooks = _hooks(pipe.unet)
    with torch.inference_mode():  # as some notebooks run all of their cells
        saliency = explain.df_cam(tracer.trace, 0)
    assert np.isfinite(saliency.map).all()
    assert saliency.map.max() > 0
    assert _hooks(pipe.unet) == hooks
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())
    assert {parameter.requires_grad for parameter in pipe.unet.parameters()} == {not frozen}


def test_hooks_come_off_after_an_error() -> None:
    pipe = pipelines.stable_diffusion()
    run = trace(pipe, PROMPT, seed=1, num_inference_steps=1)
    calls = 0

    def fail(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first call is the denoiser's own check
            raise KeyboardInterrupt

    handle = pipe.unet.mid_block.register_forward_pre_hook(fail)
    before = _hooks(pipe.unet)
    with pytest.raises(KeyboardInterrupt):
        explain.df_cam(run, 0)
    assert _hooks(pipe.unet) == before
    handle.remove()


def _hooks(module: nn.Module) -> int:
    return sum(len(child._forward_hooks) + len(child._forward_pre_hooks) for child in module.modules())


def test_bad_input() -> None:
    run = trace(pipelines.stable_diffusion(), PROMPT, seed=1, num_inference_steps=1)
    with pytest.raises(KeyError, match=r"'mid' is not there; the layers are: down_blocks\.0\.attentions\.0, "):
        explain.df_cam(run, 0, ["mid"])
    with pytest.raises(ValueError, match="the list is empty"):
        explain.df_cam(run, 0, [])
    assert list(explain.df_cam(run, 0, "mid_block.resnets.0").layers) == ["mid_block.resnets.0"]
