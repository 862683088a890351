"""The denoiser's last stage: the loss measures what an image lacks, and its gradient reaches the right answers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diffvis_widget.scenes import WEIGHTS
from diffvis_widget.scenes.architecture import make_scheduler
from diffvis_widget.scenes.evaluation.judge import CLASSES, Judge, load_judge
from diffvis_widget.scenes.render import draw
from diffvis_widget.scenes.training.caption_loss import missing_content_loss
from diffvis_widget.scenes.training.judge import load_reader
from diffvis_widget.scenes.training.reward import sampling_coefficients
from diffvis_widget.scenes.world import Spec, Thing

CLASS_COUNT = sum(map(len, CLASSES.values()))


def _answers(*detections: tuple[int, int, Thing]) -> tuple[torch.Tensor, torch.Tensor]:
    """A detector's answers, sure of things in cells (row, column) and of no setting."""
    cells = torch.full((1, 3 + CLASS_COUNT, 12, 12), -30.0)
    cells[:, 1:3] = 0.5
    for row, column, thing in detections:
        cells[0, 0, row, column] = 30
        start = 3
        for key, names in CLASSES.items():
            cells[0, start + names.index(getattr(thing, key)), row, column] = 30
            start += len(names)
    setting = torch.full((1, 8), -30.0)
    setting[0, 0] = 30
    return cells, setting


def test_a_wish_is_the_logarithm_of_what_a_detector_believes():
    cells = torch.full((1, 3 + CLASS_COUNT, 12, 12), -1000.0)
    cells[:, 1:3] = 0.5
    cells[0, 0, 4, 7] = math.log(0.6 / 0.4)
    cells[0, 3:, 4, 7] = 0.0
    settings = torch.zeros(1, 8)
    (loss,) = missing_content_loss(cells, settings, [Spec((Thing("fish", "red"),), setting="sea")])
    chance = 0.6 * (1 / 14) * (1 / 8) * (1 / 3) ** 0.5 * (1 / 3) ** 0.5
    assert loss.item() == pytest.approx(-math.log(chance) - 0.01 - 0.5 * math.log(1 / 8), abs=1e-4)
    (open_colour,) = missing_content_loss(cells, settings, [Spec((Thing("fish", None),), setting="sea")])
    assert (loss - open_colour).item() == pytest.approx(math.log(8), abs=1e-4)


STAR, HOUSE = Thing("star", "red"), Thing("house", "blue")


@pytest.mark.parametrize(
    ("spec", "seen", "there"),
    [
        (Spec((STAR, HOUSE), relation="above"), [(2, 5, STAR), (9, 6, HOUSE)], True),
        (Spec((STAR, HOUSE), relation="below"), [(2, 5, STAR), (9, 6, HOUSE)], False),
        (Spec((STAR, HOUSE), relation="left"), [(2, 5, STAR), (9, 6, HOUSE)], False),
        (Spec((STAR, HOUSE), relation="left"), [(5, 2, STAR), (6, 9, HOUSE)], True),
        (Spec((STAR, HOUSE), relation="right"), [(5, 2, STAR), (6, 9, HOUSE)], False),
        (Spec((STAR, HOUSE), relation="and"), [(5, 2, STAR), (6, 9, HOUSE)], True),
        (Spec((STAR, HOUSE), relation="and"), [(5, 2, STAR)], False),
        (Spec((STAR,), place="top"), [(2, 6, STAR)], True),
        (Spec((STAR,), place="bottom"), [(2, 6, STAR)], False),
        (Spec((STAR,), place="middle"), [(6, 5, STAR)], True),
        (Spec((STAR,), place="middle"), [(6, 2, STAR)], False),
        (Spec((STAR,)), [(6, 2, STAR)], True),
        (Spec((STAR,)), [(6, 2, HOUSE)], False),
        (Spec((STAR,)), [(6, 2, STAR), (9, 9, STAR)], False),
        (Spec((STAR,), setting="night"), [(6, 2, STAR)], False),
    ],
)
def test_nothing_is_wished_where_all_is_there(spec: Spec, seen: list[tuple[int, int, Thing]], there: bool):
    cells, setting = _answers(*seen)
    (loss,) = missing_content_loss(cells, setting, [spec])
    assert loss.item() == pytest.approx(0, abs=1e-3) if there else loss.item() > 0.5


def test_renderings_leave_little_to_wish_of_their_captions_and_much_of_others():
    scenes = [draw(i) for i in range(40)]
    specs = [scene.sketch.spec for scene in scenes]
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        cells, settings = load_judge(WEIGHTS / "judge.safetensors")(images)
        matching, other = (
            missing_content_loss(cells, settings, specs),
            missing_content_loss(cells, settings, specs[1:] + specs[:1]),
        )
    assert matching.quantile(0.9) < 0.3
    assert other.min() > 3


def test_a_wish_can_be_followed_down():
    judge = load_judge(WEIGHTS / "judge.safetensors").requires_grad_(False)
    scene = draw(3)
    image = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 127.5 - 1
    spec = Spec((Thing("heart", "green"),), setting=scene.sketch.spec.setting)
    lacked: list[float] = []
    for _ in range(20):
        image.requires_grad_(True)
        cells, settings = judge(image)
        (lacking,) = missing_content_loss(cells, settings, [spec])
        lacked.append(lacking.item())
        (slope,) = torch.autograd.grad(lacking, image)
        image = (image - slope / slope.norm()).detach().clamp(-1, 1)
    assert lacked[-1] < lacked[0] / 4


def test_the_walk_is_the_schedulers_and_its_reach_what_an_answer_changes_in_the_end():
    steps, changed = 11, 4
    timesteps, keep, add, reach = sampling_coefficients(steps)
    generator = torch.Generator().manual_seed(0)
    answers = torch.randn(steps, 1, 4, 12, 12, generator=generator)
    z = start = torch.randn(1, 4, 12, 12, generator=generator)
    for i in range(steps):
        z = keep[i] * z + add[i] * answers[i]

    def paint(answers: torch.Tensor) -> torch.Tensor:
        scheduler, latents = make_scheduler(), start
        scheduler.set_timesteps(steps)
        assert torch.equal(scheduler.timesteps, timesteps)
        for t, answer in zip(timesteps, answers, strict=True):
            (latents,) = scheduler.step(answer, t, latents, return_dict=False)
        return latents

    expected = paint(answers)
    assert torch.allclose(z, expected, atol=1e-4)
    push = torch.randn(1, 4, 12, 12, generator=generator)
    answers[changed] += push
    assert torch.allclose(paint(answers) - expected, reach[changed] * push, atol=1e-4)


def test_a_reader_that_has_not_begun_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run the reader stage first"):
        load_reader(tmp_path)
    torch.save({"average": Judge().state_dict()}, tmp_path / "reader.pt")
    assert not load_reader(tmp_path).training
