"""Tiny pipelines with a ControlNet, or with a control image in further channels: the denoisers of traced families.

Not a test: a workshop, as tests.pipelines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from tests import pipelines_chat, pipelines_joint, pipelines_more, pipelines_unet
from tests.tiny_parts import Case, left_half, overlooking, random_image, stirred, with_parts_of

SIZE: dict[str, Any] = {"height": 32, "width": 48, "num_inference_steps": 2}
CONTROL = random_image(32, 48)


def _with(pipeline: str, build: Callable[[], Any], control: Callable[[Any], Any], **more: Any) -> Callable[[], Any]:
    """A builder of a pipeline of the same parts as another one, and a ControlNet made from its denoiser."""

    def changed(whole: Any) -> dict[str, Any]:
        return {"controlnet": control(getattr(whole, "unet", None) or whole.transformer)}

    return with_parts_of(getattr(diffusers, pipeline), build, changed, **more)


def _of_unet(unet: Any) -> Any:
    # two stages: the condition is halved once, as the tiny autoencoder does
    return stirred(diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32)))


def _of_sd3(transformer: Any, extra: int = 0) -> Any:
    made = diffusers.SD3ControlNetModel.from_transformer(
        transformer, num_layers=1, num_extra_conditioning_channels=extra
    )
    return stirred(made)


def _heads(transformer: Any) -> dict[str, int]:
    return {name: transformer.config[name] for name in ("attention_head_dim", "num_attention_heads")}


def _of_flux(transformer: Any) -> Any:
    sizes: dict[str, Any] = {**_heads(transformer), "num_layers": 1, "num_single_layers": 1}
    with overlooking(".*FluxPosEmbed"):
        return stirred(diffusers.FluxControlNetModel.from_transformer(transformer, **sizes))


def _of_z_image(transformer: Any, channels: int = 16) -> Any:
    heads = {name: transformer.config[name] for name in ("dim", "n_heads", "n_kv_heads", "n_refiner_layers")}
    places: dict[str, Any] = {"control_layers_places": [0], "control_refiner_layers_places": [0]}
    return stirred(diffusers.ZImageControlNetModel(**places, control_in_dim=channels, **heads))


def _of_qwen(transformer: Any, extra: int = 0) -> Any:
    sizes: dict[str, Any] = {**_heads(transformer), "num_layers": 1, "extra_condition_channels": extra}
    return stirred(diffusers.QwenImageControlNetModel.from_transformer(transformer, **sizes))


def _wider(pipeline: str, build: Callable[[], Any], **config: Any) -> Callable[[], Any]:
    """A builder of a pipeline of the same parts as another one, whose transformer has another configuration."""

    def changed(whole: Any) -> dict[str, Any]:
        before = {name: value for name, value in whole.transformer.config.items() if not name.startswith("_")}
        torch.manual_seed(0)
        return {"transformer": stirred(type(whole.transformer)(**before | config))}

    return with_parts_of(getattr(diffusers, pipeline), build, changed)


_SHORT = {**SIZE, "max_sequence_length": 24}
_PLAIN: dict[str, Any] = {"requires_safety_checker": False}
_SD = pipelines_unet.stable_diffusion
_XL = pipelines_unet.stable_diffusion_xl
_IMAGE: dict[str, Any] = {"image": CONTROL, "control_image": CONTROL, "strength": 0.7}
_PAINT: dict[str, Any] = {**_IMAGE, "mask_image": left_half(32, 48)}
_GUIDED: dict[str, Any] = {**SIZE, "guidance_scale": 5.0, "negative_prompt": "fog", "num_inference_steps": 3}
_PERTURBED = {**_GUIDED, "image": CONTROL, "pag_scale": 2.0}

CASES: dict[str, Case] = {
    "sd3-controlnet": Case(
        _with("StableDiffusion3ControlNetPipeline", pipelines_joint.CASES["sd3"].build, _of_sd3),
        {**_SHORT, "control_image": CONTROL, "guidance_scale": 5.0},
        "batch",
    ),
    "flux-controlnet": Case(
        _with("FluxControlNetPipeline", pipelines_joint.CASES["flux"].build, _of_flux),
        {**_SHORT, "control_image": CONTROL},
        "embedded",
    ),
    "qwen-controlnet": Case(
        _with("QwenImageControlNetPipeline", pipelines_joint.CASES["qwen"].build, _of_qwen),
        {**pipelines_joint.CASES["qwen"].arguments, "control_image": CONTROL},
        pipelines_joint.CASES["qwen"].guided,
    ),
    "z-image-controlnet": Case(
        _with("ZImageControlNetPipeline", pipelines_chat.z_image, _of_z_image),
        {**pipelines_chat.CASES["z-image"].arguments, "control_image": CONTROL},
        "batch",
    ),
    "z-image-controlnet-inpaint": Case(
        _with(
            "ZImageControlNetInpaintPipeline",
            pipelines_chat.z_image,
            lambda transformer: _of_z_image(transformer, 16 + 1 + 16),  # and a mask, and what it leaves of the image
        ),
        {
            **pipelines_chat.CASES["z-image"].arguments,
            "image": random_image(32, 48, seed=3),
            "mask_image": left_half(32, 48),
            "control_image": CONTROL,
        },
        "batch",
    ),
    "sd-controlnet-pag": Case(
        _with("StableDiffusionControlNetPAGPipeline", _SD, _of_unet, **_PLAIN), _PERTURBED, "batch"
    ),
    "sdxl-controlnet-pag": Case(_with("StableDiffusionXLControlNetPAGPipeline", _XL, _of_unet), _PERTURBED, "batch"),
    "flux-control": Case(
        _wider("FluxControlPipeline", pipelines_joint.CASES["flux"].build, in_channels=128, out_channels=64),
        {**_SHORT, "control_image": CONTROL},
        "embedded",
    ),
    "cogview4-control": Case(
        _wider("CogView4ControlPipeline", pipelines_more.CASES["cogview4"].build, in_channels=8, out_channels=4),
        {**pipelines_more.CASES["cogview4"].arguments, "control_image": CONTROL},
        pipelines_more.CASES["cogview4"].guided,
    ),
}
FROM_IMAGE: dict[str, Case] = {
    "sd-controlnet-img2img": Case(
        _with("StableDiffusionControlNetImg2ImgPipeline", _SD, _of_unet, **_PLAIN), {**_GUIDED, **_IMAGE}, "batch"
    ),
    "sd-controlnet-inpaint": Case(
        _with("StableDiffusionControlNetInpaintPipeline", _SD, _of_unet, **_PLAIN), {**_GUIDED, **_PAINT}, "batch"
    ),
    "sd-controlnet-pag-inpaint": Case(
        _with("StableDiffusionControlNetPAGInpaintPipeline", _SD, _of_unet, **_PLAIN), {**_GUIDED, **_PAINT}, "batch"
    ),
    "sdxl-controlnet-img2img": Case(
        _with("StableDiffusionXLControlNetImg2ImgPipeline", _XL, _of_unet), {**_GUIDED, **_IMAGE}, "batch"
    ),
    "sdxl-controlnet-inpaint": Case(
        _with("StableDiffusionXLControlNetInpaintPipeline", _XL, _of_unet), {**_GUIDED, **_PAINT}, "batch"
    ),
    "sdxl-controlnet-pag-img2img": Case(
        _with("StableDiffusionXLControlNetPAGImg2ImgPipeline", _XL, _of_unet), {**_GUIDED, **_IMAGE}, "batch"
    ),
    "sd3-controlnet-inpaint": Case(
        _with(
            "StableDiffusion3ControlNetInpaintingPipeline",
            pipelines_joint.CASES["sd3"].build,
            lambda transformer: _of_sd3(transformer, 1),
        ),
        {**_SHORT, "control_image": CONTROL, "control_mask": left_half(32, 48), "guidance_scale": 5.0},
        "batch",
    ),
    "flux-controlnet-img2img": Case(
        _with("FluxControlNetImg2ImgPipeline", pipelines_joint.CASES["flux"].build, _of_flux),
        {**_SHORT, **_IMAGE, "num_inference_steps": 3},
        "embedded",
    ),
    "flux-controlnet-inpaint": Case(
        _with("FluxControlNetInpaintPipeline", pipelines_joint.CASES["flux"].build, _of_flux),
        {**_SHORT, **_PAINT, "num_inference_steps": 3},
        "embedded",
    ),
    "qwen-controlnet-inpaint": Case(
        _with(
            "QwenImageControlNetInpaintPipeline",
            pipelines_joint.CASES["qwen"].build,
            lambda transformer: _of_qwen(transformer, 4),
        ),
        {
            **pipelines_joint.CASES["qwen"].arguments,
            "control_image": CONTROL,
            "control_mask": left_half(32, 48),
        },
        pipelines_joint.CASES["qwen"].guided,
    ),
    "flux-control-img2img": Case(
        _wider("FluxControlImg2ImgPipeline", pipelines_joint.CASES["flux"].build, in_channels=128, out_channels=64),
        {**_SHORT, **_IMAGE, "num_inference_steps": 3},
        "embedded",
    ),
    "flux-control-inpaint": Case(
        _wider("FluxControlInpaintPipeline", pipelines_joint.CASES["flux"].build, in_channels=128, out_channels=64),
        {**_SHORT, **_PAINT, "num_inference_steps": 3},
        "embedded",
    ),
    "flux-fill": Case(
        _wider("FluxFillPipeline", pipelines_joint.CASES["flux"].build, in_channels=64 + 64 + 16, out_channels=64),
        {**_SHORT, "image": CONTROL, "mask_image": left_half(32, 48), "num_inference_steps": 2},
        "embedded",
    ),
    "lcm-img2img": Case(
        with_parts_of(diffusers.LatentConsistencyModelImg2ImgPipeline, pipelines_unet.CASES["lcm"].build, **_PLAIN),
        {"num_inference_steps": 4, "image": CONTROL, "strength": 0.7, "original_inference_steps": 20},
        "embedded",
    ),
}
