"""The evaluation on the scenes model: masks are valid at every step, it resumes, and the tables show its results."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import diffvis_widget as dv
from diffvis_widget.explain.evaluation import json_lines as lines
from diffvis_widget.explain.evaluation import measures as evaluations
from diffvis_widget.explain.evaluation import metrics, report, roles
from diffvis_widget.explain.evaluation.ground_truth import Rendering
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from diffvis_widget.shipped import scenes_fingerprint
from diffvis_widget.traces import Trace


@pytest.fixture(scope="module")
def pipe() -> Any:
    return dv.load()


@pytest.fixture(scope="module")
def rendering(pipe: Any) -> Rendering:
    return Rendering(pipe, held_out_scenes(2)[1], seed=1)


@pytest.fixture(scope="module")
def trace(pipe: Any, rendering: Rendering) -> Trace:
    return dv.trace(pipe, rendering.scene.caption, **rendering.arguments(pipe, 4))


def test_every_step_sees_the_rendering(pipe: Any, rendering: Rendering, trace: Trace) -> None:
    pixels = torch.from_numpy(rendering.scene.image / 127.5 - 1).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        clean = (pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor)[0].numpy()
    noises: list[np.ndarray] = []
    for timestep, latents in zip(trace.timesteps, trace.latents[:4], strict=True):
        alpha = float(pipe.scheduler.alphas_cumprod[int(timestep)])
        noises.append((latents - alpha**0.5 * clean) / (1 - alpha) ** 0.5)
    # what is left is noise of unit variance, new at each step
    assert all(abs(float(noise.std()) - 1) < 0.15 for noise in noises)
    between = np.corrcoef([noise.ravel() for noise in noises])
    assert np.abs(between - np.eye(4)).max() < 0.2


def test_regions_are_the_captions_words(rendering: Rendering, trace: Trace) -> None:
    regions = rendering.regions(trace)
    assert regions
    for region in regions:
        text = trace.words[region.word].text
        assert text in rendering.scene.caption.split()
        if region.role == "object":
            assert region.thing is not None
            assert rendering.scene.sketch.things[region.thing].shape == text
            assert (region.mask <= rendering.objects).all()


def test_daam_is_the_sum_of_bicubic_maps(trace: Trace) -> None:
    expected = torch.zeros(len(trace.words), 12, 12)
    for index, layer in enumerate(trace.layers):
        if layer.name.split(".")[0] != "mid_block":
            for step in range(4):
                maps = torch.from_numpy(trace.heat_maps(step=step, layer=index)).unsqueeze(1)
                expected += F.interpolate(maps, (12, 12), mode="bicubic").clamp(min=0).squeeze(1)
    np.testing.assert_allclose(evaluations.daam(trace, None, (12, 12)), expected, rtol=1e-5)


def test_a_model_is_broken_from_its_output_to_its_input(pipe: Any) -> None:
    unet = copy.deepcopy(pipe.unet)
    names = [name for name, _ in evaluations.blocks(unet)]
    assert (names[0], names[-1]) == ("output", "input")
    covered = [
        weight for _, modules in evaluations.blocks(unet) for module in modules for weight in module.parameters()
    ]
    assert len({id(weight) for weight in covered}) == len(covered) == len(list(unet.parameters()))
    before = unet.conv_in.weight.detach().clone()
    evaluations.randomise(unet.conv_in, torch.Generator().manual_seed(0))
    after = unet.conv_in.weight.detach()
    assert abs(metrics.rank_correlation(before.numpy(), after.numpy())) < 0.2
    assert float(after.std()) == pytest.approx(float(before.std()), rel=0.2)
    assert torch.equal(pipe.unet.conv_in.weight, before)


def test_words_are_measured_and_told(
    pipe: Any, rendering: Rendering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "STEPS", 2)
    measurements = evaluations.words(pipe, rendering)
    values = np.array(measurements["roles"]["object"]["methods"][evaluations.DEFAULT]["values"])
    assert values.shape == (3, 3)
    assert values.min() >= 0
    assert values.max() <= 1
    lines.append(tmp_path / "words.jsonl", {"scene": 0, "step": None, "model": "m", **measurements})
    lines.append(tmp_path / "words.jsonl", {"scene": 1, "step": None, "model": "m", **measurements})
    report.write(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "### Maps of words: 2 scenes" in page
    precision = values[2, -1]
    assert f"{precision:.2f}" in page
    assert "fingerprint\nm.\n\nNewer weights ship by now" in page

    lines.append(
        tmp_path / "now" / "words.jsonl", {"scene": 0, "step": None, "model": scenes_fingerprint(), **measurements}
    )
    report.write(tmp_path / "now")
    assert "Newer weights" not in (tmp_path / "now" / "README.md").read_text(encoding="utf-8")


def test_steps_are_measured_beside_the_truth(pipe: Any, rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEPS": 2, "MASKS": 32, "SAMPLES": 4}.items():
        monkeypatch.setattr(evaluations, name, value)
    measurements = evaluations.steps(pipe, rendering, 1)
    assert measurements["masks"] == 32
    truth, random = (measurements["methods"][name] for name in ("the truth", "random"))
    assert truth[0] == 1  # its maximum is inside
    assert truth[2] > 0.9 > random[2]  # average precision
    assert all(0 < area < 2 for values in measurements["methods"].values() for area in values[3:])
    assert measurements["share"] == pytest.approx(rendering.objects.mean(), abs=1e-3)


def test_sanity_breaks_a_copy_of_the_model(pipe: Any, rendering: Rendering, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SANITY_MASKS": 4, "SANITY_SAMPLES": 4}.items():
        monkeypatch.setattr(evaluations, name, value)
    monkeypatch.setattr(evaluations, "blocks", lambda unet: iter([("output", [unet.conv_out]), ("all", [unet])]))
    before = pipe.unet.conv_out.weight.detach().clone()
    measurements = evaluations.sanity(pipe, rendering)
    assert measurements["stages"] == ["nothing", "output", "all"]
    assert torch.equal(pipe.unet.conv_out.weight, before)
    # what draws nothing is the same again; attention lies before the output's weights, relevance looks through them
    assert measurements["methods"]["DF-CAM"][0] == measurements["methods"][evaluations.DEFAULT][1] == 1
    assert measurements["methods"][evaluations.RELEVANCE][0] == 1 > measurements["methods"][evaluations.RELEVANCE][1]
    assert all(values[2] < 0.7 for values in measurements["methods"].values())


def test_lines_go_on_after_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "words.jsonl"
    assert lines.resume(path, "m") == []
    lines.append(path, {"scene": 0, "model": "m"})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"scene": 1, "mod')
    assert lines.resume(path, "m") == [{"scene": 0, "model": "m"}]
    lines.append(path, {"scene": 1, "model": "m"})
    assert [line["scene"] for line in lines.resume(path, "m")] == [0, 1]
    before = path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"other weights \(m, now n\): move it away"):
        lines.resume(path, "n")
    assert path.read_text(encoding="utf-8") == before
    path.write_text("{\n" + json.dumps({"model": "m"}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1, is not JSON"):
        lines.resume(path, "m")


# -- roles -------------------------------------------------------------------------------------------------------------


def test_roles_of_a_caption() -> None:
    for scene in roles.captions(12):
        words = ["<start>", *scene.caption.split()]
        of_role: dict[str, list[str]] = {}
        for index, role in roles.roles_of(scene).items():
            of_role.setdefault(role, []).append(words[index])
        spec = scene.sketch.spec
        assert of_role["object"] == [thing.shape for thing in spec.things]
        assert of_role["colour"] == [thing.colour for thing in spec.things]
        assert len(of_role["relation"]) == len(of_role["setting"]) == 1
        assert of_role["relation"][0] in ("above", "over", "below", "under", "left", "right")


def test_halves_of_a_image(trace: Trace) -> None:
    measurements = roles.halves(trace)
    assert {name: part[-1] for name, part in measurements.items()} == {"coarse": 1, "fine": 1}
    frames = trace.frames("prediction").astype(float)
    blocks = frames.reshape(4, 8, 12, 8, 12, 3).mean(axis=(2, 4))
    expected = 1 - np.square(blocks[0] - blocks[3]).mean() / blocks[3].var(axis=(0, 1)).mean()
    assert measurements["coarse"][0] == pytest.approx(expected)


def test_when_something_happens() -> None:
    assert report.centre([1, 1, 1]) == pytest.approx(0.5)
    assert report.centre([0, 0, 2]) == 1
    assert report.centre([0, 0, 0]) is None
    assert report.reached([0.1, 0.6, 0.4, 0.7, 1.0]) == 0.75
    assert report.reached([0.6, 1.0]) == 0


def test_a_page_of_roles(tmp_path: Path) -> None:
    curves = {
        "object": [1.0, 1.0, 1.0],
        "colour": [0.0, 0.0, 1.0],
        "relation": [1.0, 0.0, 0.0],
        "setting": [1.0, 1.0, 1.0],
    }
    settled = {"coarse": [0.6, 0.9, 1.0], "fine": [0.1, 0.6, 1.0]}
    for seed in range(5):
        line = {"seed": seed, "model": "m", "curves": dict.fromkeys(roles.SCHEDULES, curves), "settled": settled}
        lines.append(tmp_path / "roles.jsonl", line)
    page = "\n".join(report.roles(tmp_path))
    assert "5 held-out captions" in page
    # colour's middle is 1, the others' mean is (0.5 + 0 + 0.5) / 3
    assert "setting): +0.667 (+0.667 to +0.667): yes." in page
    assert "(object minus relation, uniform): +2.0 (+2.0 to +2.0): yes." in page
    assert "(relation, early minus late): +0.0 (+0.0 to +0.0): not decided." in page
    assert "Image (fine minus coarse): +0.500 (+0.500 to +0.500): yes." in page
