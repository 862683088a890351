"""Final latents, decoded image and returned image of a call are those of the call itself, not of another decode."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image

from diffvis_widget.tracer import Tracer
from diffvis_widget.tracer.call_output import returned_images, unscale_from_vae
from diffvis_widget.tracer.families import find_family
from diffvis_widget.tracer.packing import unpack
from diffvis_widget.tracer.preview import decode
from tests import pipelines, pipelines_joint, pipelines_unet
from tests.pipelines_dit import FAMILIES
from tests.tiny_parts import left_half, random_image

PROMPT = "a red circle above a blue square"
LOOPS = ["sd", "sd3", "flux", "flux2", "qwen", "sana"]  # all ways of packing and scaling latents


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(images: Any) -> np.ndarray:
    """What diffusers' numpy_to_pil makes of arrays."""
    return (np.asarray(images) * 255).round().astype(np.uint8)


def in_image_shape(pipe: Any, returned: torch.Tensor, like: np.ndarray) -> np.ndarray:
    """Latents as a pipeline returns them, unpacked."""
    if returned.ndim == 5:
        returned = returned[:, :, 0]
    if returned.ndim == 3:
        family, _ = find_family(pipe)
        assert family.packing is not None
        returned = unpack(returned, (like.shape[-2], like.shape[-1]), family.packing)
    return returned.float().numpy()


@pytest.mark.parametrize("name", [*LOOPS, "kandinsky22", "if"])
def test_what_is_returned_does_not_depend_on_the_form(name: str) -> None:
    pipe, arguments = FAMILIES[name].build(), {"prompt": PROMPT, **FAMILIES[name].arguments}
    latents = pipe(**arguments, output_type="pt" if name == "if" else "latent", generator=seeded()).images
    plain = pipe(**arguments, output_type="np", generator=seeded()).images
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*without word maps")
        with Tracer(pipe) as tracer:
            for kind in ("latent", "pt", "np", "pil"):
                pipe(**arguments, output_type=kind, generator=seeded())
    assert len(tracer.traces) == 4
    for trace in tracer.traces:
        assert "image_note" not in trace.meta
        expected = in_image_shape(pipe, latents, trace.latents[-1])
        assert np.array_equal(trace.latents[-1], expected[0])
        assert np.abs(trace.image.astype(int) - pixels(plain)[0]).max() <= 1
        assert trace.decoded_image is trace.image


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("kind", ["latent", "np"])
@pytest.mark.parametrize("factor", [1.5, 1.008, 1.0001])
def test_a_callback_after_the_last_step(name: str, kind: str, factor: float) -> None:
    pipe, arguments = FAMILIES[name].build(), {"prompt": PROMPT, **FAMILIES[name].arguments}
    steps = arguments["num_inference_steps"]
    changed: list[torch.Tensor] = []

    def change(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if index == steps - 1:
            values["latents"] = values["latents"] * factor
            changed.append(values["latents"].clone())
        return values

    with Tracer(pipe) as tracer:
        output = pipe(**arguments, output_type=kind, generator=seeded(), callback_on_step_end=change)
    expected = in_image_shape(pipe, changed[0], tracer.trace.latents[-1])[0]
    scale = np.abs(expected).max()
    assert np.abs(tracer.trace.latents[-1] - expected).max() <= (0 if kind == "latent" else 3e-6 * scale)
    if kind == "np":
        assert np.array_equal(tracer.trace.image, pixels(output.images)[0])


def test_a_callback_that_writes_into_the_latents() -> None:
    pipe, stored = pipelines.stable_diffusion(), []

    def change(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        values["latents"].mul_(0.9)
        stored.append(values["latents"].clone())
        return {}

    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2, generator=seeded(), callback_on_step_end=change)
    np.testing.assert_allclose(tracer.trace.latents[-1], stored[-1][0].numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_callback_in_half_precision(dtype: torch.dtype) -> None:
    pipe, stored = pipelines.stable_diffusion().to(dtype), []

    def change(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        stored.append(values["latents"] * 1.1)
        return {"latents": stored[-1]}

    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=2, generator=seeded(), callback_on_step_end=change)
    expected = stored[-1][0].float().numpy()
    off = np.abs(tracer.trace.latents[-1].astype(np.float32) - expected)
    assert (off <= 2 * torch.finfo(dtype).eps * np.abs(expected) + 1e-6).all()


@pytest.mark.parametrize(
    "name",
    ["sd", "sdxl-pag", "flux", "sd3", "qwen", "flux2", "sana", "pixart-sigma", "z-image", "z-image-omni", "omnigen"],
)
def test_scaling_for_the_autoencoder_is_undone(name: str) -> None:
    pipe = FAMILIES[name].build()
    family, _ = find_family(pipe)
    channels = {"flux2": 4 * pipe.vae.config.latent_channels} if name == "flux2" else {}
    count = channels.get(name) or getattr(pipe.vae.config, "latent_channels", None) or pipe.vae.config.z_dim
    latents = torch.randn(2, count, 6, 4, generator=seeded())
    scaled = family.scale_for_vae(pipe.vae, latents)
    torch.testing.assert_close(unscale_from_vae(family, pipe.vae, scaled, (count, 6, 4)), latents, rtol=1e-5, atol=1e-5)


# -- decodes by others -------------------------------------------------------------------------------------------------


def test_a_refiner_with_the_same_autoencoder() -> None:
    base, refiner = pipelines.stable_diffusion_xl(), pipelines_unet.refiner()
    refiner.vae, refiner.text_encoder_2, refiner.tokenizer_2 = base.vae, base.text_encoder_2, base.tokenizer_2
    first = {"num_inference_steps": 4, "denoising_end": 0.5, "output_type": "latent"}
    second = {"num_inference_steps": 4, "denoising_start": 0.5}
    with Tracer(base) as of_base, Tracer(refiner) as of_refiner:
        latents = base(PROMPT, **first, generator=seeded()).images
        image = refiner(PROMPT, image=latents, **second, generator=seeded(2)).images[0]
    assert np.array_equal(of_base.trace.latents[-1], latents[0].numpy())
    assert np.array_equal(of_base.trace.image, decode(base, latents)[0])
    assert np.array_equal(of_refiner.trace.image, np.asarray(image))


@pytest.mark.parametrize("shares", [False, True], ids=["its own scheduler", "the same scheduler"])
@pytest.mark.parametrize("kind", ["latent", "np"])
def test_a_second_pass_with_the_same_denoiser(shares: bool, kind: str) -> None:
    first = pipelines.stable_diffusion()
    parts = {} if shares else {"scheduler": DDIMScheduler.from_config(first.scheduler.config)}
    second = StableDiffusionImg2ImgPipeline(**{**first.components, **parts}, requires_safety_checker=False)
    second.set_progress_bar_config(disable=True)
    latents = first(PROMPT, num_inference_steps=3, output_type="latent", generator=seeded()).images
    with Tracer(first) as tracer:
        output = first(PROMPT, num_inference_steps=3, output_type=kind, generator=seeded()).images
        second(PROMPT, image=latents, strength=0.7, num_inference_steps=3, generator=seeded(2))
    assert len(tracer.traces) == 1
    assert np.array_equal(tracer.trace.latents[-1], latents[0].numpy())
    expected = decode(first, latents)[0] if kind == "latent" else pixels(output)[0]
    assert np.array_equal(tracer.trace.image, expected)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("build", [pipelines.stable_diffusion, pipelines_joint.stable_diffusion_3])
def test_a_decode_by_the_user_afterwards(build: Callable[[], Any], inside: bool) -> None:
    pipe, stored = build(), []

    def note(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        stored.append(values["latents"].clone())
        return {}

    arguments = {"num_inference_steps": 3, "generator": seeded(), "height": 32, "width": 32}
    with Tracer(pipe) as tracer:
        image = pipe(PROMPT, **arguments, callback_on_step_end=note).images[0]
        if inside:
            pipe.vae.decode(stored[0])
    pipe.vae.decode(stored[0])
    assert np.array_equal(tracer.trace.latents[-1], stored[-1][0].numpy())
    assert np.array_equal(tracer.trace.image, np.asarray(image))


@pytest.mark.parametrize("kind", ["latent", "pil"])
def test_previews_that_a_callback_decodes(kind: str) -> None:
    pipe = pipelines.stable_diffusion()
    expected = pipe(PROMPT, num_inference_steps=3, generator=seeded(), output_type="latent").images

    def preview(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe.vae.decode(values["latents"] * 0.3)
        return {}

    with Tracer(pipe) as tracer:
        pipe(PROMPT, num_inference_steps=3, generator=seeded(), output_type=kind, callback_on_step_end=preview)
    assert np.array_equal(tracer.trace.latents[-1], expected[0].numpy())
    assert np.array_equal(tracer.trace.image, decode(pipe, expected)[0])


def test_an_image_that_is_read_during_the_call_does_not_stay() -> None:
    pipe = pipelines.stable_diffusion()
    during: list[np.ndarray] = []
    with Tracer(pipe, on_step=lambda step: during.append(tracer.trace.image)) as tracer:
        latents = pipe(PROMPT, num_inference_steps=2, generator=seeded(), output_type="latent").images
    assert np.array_equal(tracer.trace.image, decode(pipe, latents)[0])
    assert not np.array_equal(during[0], tracer.trace.image)


# -- several images and calls ------------------------------------------------------------------------------------------


def test_batches_and_several_calls_in_one_block() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer:
        first = pipe(PROMPT, num_inference_steps=2, num_images_per_prompt=2, return_dict=False)[0]
        second = pipe(["a cat", "a dog"], num_inference_steps=2, output_type="latent").images
        third = pipe(["a cat", "a dog"], num_inference_steps=2, num_images_per_prompt=2, output_type="pt").images
    assert len(tracer.traces) == 8
    images = [trace.image for trace in tracer.traces]
    assert all(np.array_equal(*pair) for pair in zip(images[:2], map(np.asarray, first), strict=True))
    assert np.array_equal(np.stack([trace.latents[-1] for trace in tracer.traces[2:4]]), second.numpy())
    assert np.array_equal(np.stack(images[4:]), pixels(third.permute(0, 2, 3, 1).numpy()))


def test_autoencoders_that_are_called_for_each_image() -> None:
    class OneByOne(StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            output: Any = super().__call__(*args, **kwargs, output_type="latent")
            latents = output.images
            parts = [self.vae.decode(part / self.vae.config.scaling_factor)[0] for part in latents[:, None]]
            return (self.image_processor.postprocess(torch.cat(parts).detach()), None)

    plain = pipelines.stable_diffusion()
    pipe: Any = OneByOne(**plain.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    before = vars(OneByOne)["__call__"]
    with Tracer(pipe) as tracer:
        images = pipe(PROMPT, num_inference_steps=2, num_images_per_prompt=2)[0]
    assert vars(OneByOne)["__call__"] is before
    for trace, image in zip(tracer.traces, images, strict=True):
        assert np.array_equal(trace.image, np.asarray(image))
        assert "image_note" not in trace.meta


def test_a_class_that_inherits_its_call_is_left_as_it_was() -> None:
    class Inherits(StableDiffusionPipeline):
        pass

    pipe: Any = Inherits(**pipelines.stable_diffusion().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with Tracer(pipe) as tracer:
        image = pipe(PROMPT, num_inference_steps=2).images[0]
    assert "__call__" not in vars(Inherits)
    assert np.array_equal(tracer.trace.image, np.asarray(image))


def test_calls_of_another_pipeline_of_the_class_pass() -> None:
    pipe, other = pipelines.stable_diffusion(), pipelines.stable_diffusion(seed=1)
    with Tracer(pipe) as tracer:
        image = pipe(PROMPT, num_inference_steps=2, generator=seeded()).images[0]
        other(PROMPT, num_inference_steps=2)
        thread = threading.Thread(target=other, args=(PROMPT,), kwargs={"num_inference_steps": 2})
        thread.start()
        thread.join()
    assert np.array_equal(tracer.trace.image, np.asarray(image))


def test_a_loop_of_the_users_own() -> None:
    pipe = pipelines.stable_diffusion()
    with Tracer(pipe) as tracer, torch.no_grad():
        text, _ = pipe.encode_prompt(PROMPT, "cpu", 1, False)
        pipe.scheduler.set_timesteps(3)
        latents = torch.randn(1, 4, 16, 16, generator=seeded())
        for timestep in pipe.scheduler.timesteps:
            latents = pipe.scheduler.step(pipe.unet(latents, timestep, text)[0], timestep, latents)[0]
        pipe.vae.decode(latents * 0.1)
    assert np.array_equal(tracer.trace.latents[-1], latents[0].numpy())
    assert np.array_equal(tracer.trace.image, decode(pipe, latents)[0])


# -- inpainting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["latent", "np", "pil"])
@pytest.mark.parametrize(
    "build",
    [pipelines.inpainting, pipelines_joint.stable_diffusion_3_inpainting, pipelines_joint.flux_inpainting],
)
def test_the_last_blend_of_inpainting(build: Callable[[], Any], kind: str) -> None:
    pipe = build()
    size = {"height": 32, "width": 32}
    arguments = {**size, "image": random_image(32, 32), "mask_image": left_half(32, 32), "strength": 1.0}

    def run(kind: str) -> Any:
        return pipe(PROMPT, **arguments, num_inference_steps=3, generator=seeded(), output_type=kind).images

    latents = run("latent")
    with Tracer(pipe) as tracer:
        output = run(kind)
    expected = in_image_shape(pipe, latents, tracer.trace.latents[-1])[0]
    np.testing.assert_allclose(tracer.trace.latents[-1], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    if kind != "latent":
        assert np.array_equal(tracer.trace.image, np.asarray(output[0]) if kind == "pil" else pixels(output)[0])


# -- forms of output ---------------------------------------------------------------------------------------------------


def test_forms_of_images() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3), dtype=np.uint8)
    values = image.astype(np.float32) / 255
    tensor = torch.from_numpy(values).permute(0, 3, 1, 2)
    with_alpha = [Image.fromarray(part).convert("RGBA") for part in image]
    forms = [list(map(Image.fromarray, image)), with_alpha, values, list(values), tensor, list(tensor), image]
    for form in forms:
        assert np.array_equal(np.stack(returned_images(form, 2) or []), image)
    grey = np.repeat(image[:, :, :, :1], 3, axis=3)
    for form in ([Image.fromarray(part[..., 0]) for part in image], values[..., :1], values[..., 0], tensor[:, :1]):
        assert np.array_equal(np.stack(returned_images(form, 2) or []), grey)
    raw = tensor * 2 - 1
    assert np.array_equal(np.stack(returned_images(raw, 2) or []), image)
    for single in (Image.fromarray(image[0]), values[0], tensor[0]):
        assert np.array_equal(np.stack(returned_images(single, 1) or []), image[:1])
    assert np.array_equal(np.stack(returned_images(np.full((1, 2, 2, 3), np.nan), 1) or []), np.zeros((1, 2, 2, 3)))


@pytest.mark.parametrize(
    "value",
    [None, "an image", [], [[1, 2]], np.zeros((2, 3, 4, 5, 3)), np.zeros((2, 4, 4, 7)), np.zeros((3, 4, 4, 3)), {}],
    ids=["None", "text", "empty", "numbers", "video", "channels", "count", "mapping"],
)
def test_other_forms_are_no_images(value: Any) -> None:
    assert returned_images(value, 2) is None
