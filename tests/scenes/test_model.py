"""The shipped scenes model: it loads as a pipeline, follows its prompt, and its words look where their things are."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

import diffvis_widget as dv
from diffvis_widget import scenes
from diffvis_widget import shipped as builtin
from diffvis_widget.concepts import ConceptMeter
from diffvis_widget.scenes.evaluation.captions import (
    colour_accuracy_by_word,
    generate,
    held_out_scenes,
    score,
)
from diffvis_widget.scenes.evaluation.concept_accuracy import answers, noisy_predictions, single_object_scenes
from diffvis_widget.scenes.evaluation.judge import load_judge
from diffvis_widget.scenes.evaluation.localization import (
    daam_aggregation,
    image_to_image_runs,
    inside_outside_ratio,
    intersection_over_union,
    mentioned_words,
    points_inside,
    refined_maps,
)
from diffvis_widget.scenes.render import SIZE
from diffvis_widget.scenes.training.export import LIMIT, check_size
from diffvis_widget.scenes.world import SHAPES
from diffvis_widget.shipped import is_scenes_model, scenes_fingerprint


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    loaded = dv.load()
    assert isinstance(loaded, StableDiffusionPipeline)
    return loaded


def test_it_is_a_stable_diffusion_pipeline_like_any_other(pipe: StableDiffusionPipeline):
    assert type(pipe) is StableDiffusionPipeline
    assert isinstance(pipe.scheduler, DPMSolverMultistepScheduler)
    assert pipe.scheduler.config["num_train_timesteps"] == 1000
    assert scenes.is_scenes(pipe)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    assert check_size() <= LIMIT


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]):
    scenes.load()
    assert capfd.readouterr() == ("", "")


def test_any_text_tokenizes_and_rare_words_split(pipe: StableDiffusionPipeline):
    tokenize = pipe.tokenizer.tokenize
    assert tokenize("a red circle") == ["a</w>", "red</w>", "circle</w>"]
    assert len(tokenize("balloon")) > 1
    assert pipe.tokenizer.unk_token_id not in pipe.tokenizer("🎈 ‏קיר‏ ﷽", add_special_tokens=False).input_ids


def test_its_trace_knows_that_it_is_the_scenes_model(pipe: StableDiffusionPipeline):
    trace = dv.trace(pipe, "a red circle above a blue square", seed=7, num_inference_steps=4)
    assert is_scenes_model(trace.meta["fingerprint"])
    assert trace.latents.shape == (5, 4, 12, 12)
    assert trace.image.shape == (96, 96, 3)
    assert {layer.grid for layer in trace.layers} == {(12, 12), (6, 6), (3, 3)}
    scores = dv.concept_scores(trace, ["circle", "red"])
    assert scores.cosine.shape == (4, 2)


def test_a_run_of_another_model_has_no_meter_by_default(pipe: StableDiffusionPipeline):
    trace = dv.trace(pipe, "a red circle", seed=7, num_inference_steps=2)
    trace.meta["fingerprint"] = "another"
    with pytest.raises(ValueError, match="for this run choose one"):
        dv.concept_scores(trace, ["circle"])


@torch.no_grad()
def test_the_autoencoder_gives_renderings_back(pipe: StableDiffusionPipeline):
    images = np.stack([scene.image for scene in held_out_scenes(16)])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    y = pipe.vae.decode(pipe.vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
    psnr = -10 * torch.log10(((y - x) / 2).square().mean(dim=(1, 2, 3)))
    assert psnr.mean() > 32


def test_few_steps_at_full_guidance_still_paint_what_is_asked(pipe: StableDiffusionPipeline):
    meter = ConceptMeter()
    colours = ["green", "blue", "red", "yellow", "orange", "purple", "pink", "brown"]
    for steps in (12, 20):
        traces = [dv.trace(pipe, "a green square", seed=seed, num_inference_steps=steps) for seed in range(4)]
        images = np.stack([trace.image for trace in traces])
        best = meter.scores(images, colours)[0].argmax(axis=1)
        assert (best == 0).all()
        # no jump at the end: the last two predictions show the same
        for trace in traces:
            before, after = trace.frames("prediction")[-2:].astype(int)
            assert np.abs(before - after).mean() < 8


def test_images_follow_held_out_captions():
    sample = held_out_scenes(24)
    judge = load_judge(scenes.WEIGHTS / "judge.safetensors")
    of_renderings = score(sample, judge.detect(np.stack([scene.image for scene in sample])))
    assert sum(right for right, _ in of_renderings.values()) / sum(total for _, total in of_renderings.values()) > 0.99
    painted = score(sample, judge.detect(generate([scene.caption for scene in sample])))
    for measure, floor in (("setting", 0.9), ("colour", 0.85)):
        right, total = painted[measure]
        assert right / total > floor, (measure, painted)


def test_what_is_missed_is_told_by_what_was_said():
    sample = held_out_scenes(60)
    images = np.stack([scene.image for scene in sample])
    at_night = [i for i, scene in enumerate(sample) if scene.sketch.spec.setting == "night"]
    images[at_night] = sample[next(i for i in range(60) if i not in at_night)].image
    verdicts = load_judge(scenes.WEIGHTS / "judge.safetensors").detect(images)
    by_part = colour_accuracy_by_word(sample, verdicts)
    assert by_part["setting", "night"][0] / by_part["setting", "night"][1] < 0.3
    for word in ("day", "sea", "(none)"):
        assert by_part["setting", word][0] / by_part["setting", word][1] > 0.9
    whole = score(sample, verdicts)["colour"]
    for part in ("shape", "colour", "size", "texture", "setting", "relation"):
        shares = [share for (wording, _), share in by_part.items() if wording == part]
        assert (sum(right for right, _ in shares), sum(cases for _, cases in shares)) == whole


def test_words_look_where_their_things_are():
    ratios: dict[str, list[float]] = {"default": [], "refined": [], "daam": []}
    for scene, trace in image_to_image_runs(held_out_scenes(10)):
        maps = {"default": trace.heat_maps(size=(SIZE, SIZE))}
        maps |= {"refined": refined_maps(trace), "daam": daam_aggregation(trace)}
        for name, heat in maps.items():
            assert heat.shape == (len(trace.words), SIZE, SIZE)
            ratios[name] += [inside_outside_ratio(heat[word], mask) for _, word, mask in mentioned_words(scene, trace)]
    assert min(np.mean(values) for values in ratios.values()) > 1.2


def test_the_ratio_is_inside_over_outside():
    heat = np.array([[4, 2], [1, 1]], dtype=np.float32)
    mask = np.array([[True, True], [False, False]])
    assert inside_outside_ratio(heat, mask) == 3
    assert points_inside(heat, mask)
    assert not points_inside(heat, ~mask)
    assert intersection_over_union(heat, mask) == 0.5  # of 1 to 4, the middle is 2.5: one of the two pixels
    assert intersection_over_union(heat, ~mask) == 0


def test_the_concept_model_reads_renderings_and_half_finished_images(pipe: StableDiffusionPipeline):
    # as many half-finished ones as are required: 120 of them are up to 7 points off by chance
    meter, sample = ConceptMeter(), single_object_scenes(1000)
    few = sample[:120]
    renderings = np.stack([scene.image for scene in few])
    for floor, scene_set, images in ((0.95, few, renderings), (0.85, sample, noisy_predictions(pipe, sample))):
        for attribute, (right, _) in answers(meter, scene_set, images).items():
            assert right.mean() > floor, (attribute, right.mean())


def test_words_that_are_not_in_the_image_score_as_unrelated_ones():
    sample = single_object_scenes(60)
    cosine, null = ConceptMeter().scores(np.stack([scene.image for scene in sample]), list(SHAPES))
    truth = np.array([[word == scene.sketch.things[0].shape for word in SHAPES] for scene in sample])
    above = cosine > null[:, 1:]
    assert above[truth].mean() > 0.95
    assert above[~truth].mean() < 0.25


def test_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(scenes, "WEIGHTS", tmp_path)
    monkeypatch.setattr(builtin, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="reinstall diffvis-widget"):
        scenes.load()
    assert scenes_fingerprint() is None
    assert not scenes.is_scenes(Image.new("L", (1, 1)))
