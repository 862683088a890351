"""Tiny editing pipelines, whose denoisers see reference images, and pipelines that begin from an image.

Not a test: a workshop, as tests.pipelines. Images are 32 x 48: 8 x 12 image tokens. References have other sizes.
"""

from __future__ import annotations

from typing import Any

import diffusers
from diffusers.modular_pipelines.qwenimage import encoders
from diffusers.pipelines.longcat_image import pipeline_longcat_image_edit
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
)
from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tests import (
    pipelines,
    pipelines_chat,
    pipelines_control,
    pipelines_cross,
    pipelines_dreamlite,
    pipelines_joint,
    pipelines_joyimage,
    pipelines_kolors,
    pipelines_more,
    pipelines_omni,
    pipelines_recent,
    pipelines_unet_more,
)
from tests import tiny_tokenizers as tokenizers
from tests.tiny_parts import Case, left_half, quiet, random_image, with_parts_of

_LARGEST = 64 * 64  # pixels of a reference: the pipelines of Qwen-Image scale each to a million


def _small(calculate: Any) -> Any:
    return lambda area, ratio: calculate(min(area, _LARGEST), ratio)


for _module in (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_plus,
    pipeline_qwenimage_edit_inpaint,
    pipeline_longcat_image_edit,
    encoders,
):
    setattr(_module, "calculate_dimensions", _small(_module.calculate_dimensions))  # noqa: B010


def _qwen_parts(seed: int) -> dict[str, Any]:
    """The parts of Qwen-Image, and a text encoder that sees images, of 14 x 14 pixels for each of its patches."""
    components = dict(pipelines_joint.qwen_image(seed).components)
    sides: dict[str, Any] = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    components["processor"] = Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sides),
        tokenizer=tokenizers.qwen(),  # loaded from a folder of its own
        video_processor=Qwen2VLVideoProcessor(**sides),
    )
    return components


def qwen_edit(seed: int = 0) -> Any:
    """Qwen-Image-Edit in small: the reference is among the text too, as the text encoder saw it."""
    return quiet(diffusers.QwenImageEditPipeline(**_qwen_parts(seed)))


def qwen_edit_plus(seed: int = 0) -> Any:
    """Qwen-Image-Edit-Plus in small: several references."""
    return quiet(diffusers.QwenImageEditPlusPipeline(**_qwen_parts(seed)))


def qwen_edit_inpainting(seed: int = 0) -> Any:
    return quiet(diffusers.QwenImageEditInpaintPipeline(**_qwen_parts(seed)))


def longcat_edit(seed: int = 0) -> Any:
    """LongCat-Image-Edit in small: the reference is in front of the prompt too, as the text encoder saw it."""
    pipe = with_parts_of(diffusers.LongCatImageEditPipeline, pipelines_recent.longcat_image)()
    pipe.tokenizer_max_length = 40
    return pipe


def flux_kontext_inpainting(seed: int = 0) -> Any:
    return quiet(diffusers.FluxKontextInpaintPipeline(**pipelines_joint._flux_parts(seed, guidance_embeds=True)))


def flux2_klein_inpainting(seed: int = 0) -> Any:
    components = dict(pipelines_chat.flux2_klein(seed).components)
    return quiet(diffusers.Flux2KleinInpaintPipeline(**components))


def chroma_inpainting(seed: int = 0) -> Any:
    """Chroma's inpainting pipeline of diffusers 0.42 reads a setting that the transformer's class does not have."""
    pipe = with_parts_of(diffusers.ChromaInpaintPipeline, pipelines_chat.chroma)()
    pipe.transformer.register_to_config(guidance_embeds=False)
    return pipe


_SIZE = {"height": 32, "width": 48}
_SHORT = {**_SIZE, "num_inference_steps": 2, "max_sequence_length": 24}
_CHAT = {**_SIZE, "num_inference_steps": 2, "max_sequence_length": 64}
_TALL = random_image(80, 64, seed=1)
_WIDE = random_image(64, 96, seed=2)
_QWEN = {**_SIZE, "num_inference_steps": 2, "negative_prompt": "a green cross", "true_cfg_scale": 4.0}
_GUIDED_BY_TWO = {"num_inference_steps": 2, "negative_prompt": "a green cross", "guidance_scale": 4.0}
_MASK = {"mask_image": left_half(**_SIZE), "strength": 0.7, "num_inference_steps": 3}
_KONTEXT = {**_SHORT, "max_area": 32 * 48, "_auto_resize": False, "guidance_scale": 3.5}

EDITING: dict[str, Case] = {
    "kontext": Case(pipelines_more.flux_kontext, {**_KONTEXT, "image": random_image(48, 32)}, "embedded"),
    "kontext-inpaint": Case(
        flux_kontext_inpainting,
        {
            **_SHORT,
            "guidance_scale": 3.5,
            "_auto_resize": False,
            "max_area": 32 * 48,
            "image": random_image(**_SIZE),
            "image_reference": random_image(48, 32, seed=4),
            **_MASK,
        },
        "embedded",
    ),
    "flux2-one": Case(pipelines_chat.flux2, {**_CHAT, "guidance_scale": 4.0, "image": _TALL}, "embedded"),
    "flux2-two": Case(pipelines_chat.flux2, {**_CHAT, "guidance_scale": 4.0, "image": [_TALL, _WIDE]}, "embedded"),
    "klein-two": Case(
        pipelines_chat.flux2_klein, {**_CHAT, "guidance_scale": 4.0, "image": [_TALL, _WIDE]}, "two calls"
    ),
    "klein-inpaint": Case(
        flux2_klein_inpainting,
        {
            **_CHAT,
            "height": 64,
            "width": 96,
            "guidance_scale": 4.0,
            "strength": 0.7,
            "num_inference_steps": 3,
            "image": random_image(64, 96),
            "image_reference": _WIDE,
            "mask_image": left_half(64, 96),
        },
        "two calls",
    ),
    "qwen-edit": Case(qwen_edit, {**_QWEN, "image": random_image(64, 64)}, "two calls"),
    "qwen-edit-plus": Case(qwen_edit_plus, {**_QWEN, "image": [_TALL, _WIDE]}, "two calls"),
    "qwen-edit-inpaint": Case(qwen_edit_inpainting, {**_QWEN, "image": random_image(64, 64), **_MASK}, "two calls"),
}
INSTRUCTION = '{"edit_instruction": "A tiny red circle, above a blue square"}'
EDITING |= {
    "longcat-edit": Case(longcat_edit, {**_GUIDED_BY_TWO, "image": random_image(64, 64)}, "two calls"),
    **pipelines_joyimage.EDITING,
    **pipelines_omni.EDITING,
    "fibo-edit": Case(
        with_parts_of(diffusers.BriaFiboEditPipeline, pipelines_recent.bria_fibo),
        {
            **pipelines_recent.CASES["fibo"].arguments,
            "prompt": INSTRUCTION,
            "image": [random_image(80, 64, seed=1), random_image(64, 96, seed=2)],
        },
        "batch",
    ),
}

# the modular pipelines of the same parts, by their guider guided as this scale
MODULAR_EDITING = {"qwen-edit": "QwenImageEditModularPipeline", "qwen-edit-plus": "QwenImageEditPlusModularPipeline"}

_FROM_IMAGE = {"image": random_image(**_SIZE), "strength": 0.7, "num_inference_steps": 3}
_INPAINT = {**_FROM_IMAGE, "mask_image": left_half(**_SIZE)}
_INPAINT_OF = {**_INPAINT, **_SIZE}
_GUIDED = {"guidance_scale": 5.0}
_PERTURBED = {"guidance_scale": 5.0, "pag_scale": 2.0}
_QWEN_FROM = {"negative_prompt": "a green cross", "true_cfg_scale": 4.0, "max_sequence_length": 24}
_PLAIN: dict[str, Any] = {"requires_safety_checker": False}

FROM_IMAGE: dict[str, Case] = {
    **pipelines_control.FROM_IMAGE,
    **pipelines_unet_more.FROM_IMAGE,
    **pipelines_kolors.FROM_IMAGE,
    **pipelines_dreamlite.FROM_IMAGE,
    "sd-img2img": Case(pipelines.image_to_image, {**_FROM_IMAGE, **_GUIDED}, "batch"),
    "sd-inpaint": Case(pipelines.inpainting, {**_INPAINT_OF, **_GUIDED}, "batch"),
    "sd-inpaint-9": Case(lambda: pipelines.inpainting(channels=9), {**_INPAINT_OF, **_GUIDED}, "batch"),
    "sd-pag-img2img": Case(
        with_parts_of(diffusers.StableDiffusionPAGImg2ImgPipeline, pipelines.stable_diffusion, **_PLAIN),
        {**_FROM_IMAGE, **_PERTURBED},
        "batch",
    ),
    "sd-pag-inpaint": Case(
        with_parts_of(diffusers.StableDiffusionPAGInpaintPipeline, pipelines.stable_diffusion, **_PLAIN),
        {**_INPAINT_OF, **_PERTURBED},
        "batch",
    ),
    "sdxl-img2img": Case(
        with_parts_of(diffusers.StableDiffusionXLImg2ImgPipeline, pipelines.stable_diffusion_xl),
        {**_FROM_IMAGE, **_GUIDED},
        "batch",
    ),
    "sdxl-inpaint": Case(
        with_parts_of(diffusers.StableDiffusionXLInpaintPipeline, pipelines.stable_diffusion_xl),
        {**_INPAINT_OF, **_GUIDED},
        "batch",
    ),
    "sdxl-pag-img2img": Case(
        with_parts_of(diffusers.StableDiffusionXLPAGImg2ImgPipeline, pipelines.stable_diffusion_xl),
        {**_FROM_IMAGE, **_PERTURBED},
        "batch",
    ),
    "sdxl-pag-inpaint": Case(
        with_parts_of(diffusers.StableDiffusionXLPAGInpaintPipeline, pipelines.stable_diffusion_xl),
        {**_INPAINT_OF, **_PERTURBED},
        "batch",
    ),
    "sd3-img2img": pipelines_joint.CASES["sd3-img2img"],
    "sd3-inpaint": pipelines_joint.CASES["sd3-inpaint"],
    "sd3-pag-img2img": Case(
        with_parts_of(diffusers.StableDiffusion3PAGImg2ImgPipeline, pipelines_joint.stable_diffusion_3),
        {**_SIZE, **_FROM_IMAGE, **_PERTURBED, "max_sequence_length": 24},
        "batch",
    ),
    "flux-img2img": pipelines_joint.CASES["flux-img2img"],
    "flux-inpaint": pipelines_joint.CASES["flux-inpaint"],
    "chroma-img2img": Case(
        with_parts_of(diffusers.ChromaImg2ImgPipeline, pipelines_chat.chroma),
        {**_SHORT, **_FROM_IMAGE, **_GUIDED},
        "two calls",
    ),
    "chroma-inpaint": Case(
        chroma_inpainting,
        {**_SHORT, **_INPAINT, **_GUIDED},
        "two calls",
    ),
    "qwen-img2img": pipelines_more.CASES["qwen-img2img"],
    "qwen-inpaint": Case(
        with_parts_of(diffusers.QwenImageInpaintPipeline, pipelines_joint.qwen_image),
        {**_INPAINT_OF, **_QWEN_FROM},
        "two calls",
    ),
    "sana-sprint-img2img": Case(
        with_parts_of(diffusers.SanaSprintImg2ImgPipeline, pipelines_cross.CASES["sana-sprint"].build),
        {
            **pipelines_cross.CASES["sana-sprint"].arguments,
            **_FROM_IMAGE,
            "image": random_image(32, 64),
            "intermediate_timesteps": None,
        },
        "embedded",
    ),
    "z-image-img2img": pipelines_more.CASES["z-image-img2img"],
    "z-image-inpaint": Case(
        with_parts_of(diffusers.ZImageInpaintPipeline, pipelines_chat.z_image),
        {**_CHAT, **_INPAINT, **_GUIDED},
        "batch",
    ),
}
