"""Training: resumable to the bit, and an optimizer that does what its paper says."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import diffvis_widget as dv
from diffvis_widget import scenes
from diffvis_widget import shipped as builtin
from diffvis_widget.scenes import load
from diffvis_widget.scenes.evaluation.captions import REQUIRED
from diffvis_widget.scenes.evaluation.judge import (
    CLASSES,
    SETTING_CLASSES,
    Detection,
    Judge,
    Verdict,
    check,
    load_judge,
)
from diffvis_widget.scenes.render import draw, sketch
from diffvis_widget.scenes.training import __main__ as command
from diffvis_widget.scenes.training import dataset, export
from diffvis_widget.scenes.training.bars import log_accuracy
from diffvis_widget.scenes.training.clip import Phrase
from diffvis_widget.scenes.training.loop import Plan, compiled, fit
from diffvis_widget.scenes.training.muon import Muon, hidden_matrices
from diffvis_widget.scenes.training.stages import latent_weights
from diffvis_widget.scenes.world import Spec, Thing
from diffvis_widget.shipped import is_scenes_model


class Interrupted(Exception):
    pass


def _line() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 24), nn.Tanh(), nn.Linear(24, 1))


def _error(module: nn.Module, generator: torch.Generator) -> Tensor:
    x = torch.randn(8, 20, generator=generator)
    return (module(x)[:, 0] - x.sum(1)).square().mean()


def _train(folder: Path, fail_at: int | None = None) -> nn.Module:
    torch.manual_seed(0)
    module = _line()

    def loss_of(generator: torch.Generator, step: int) -> Tensor:
        if step == fail_at:
            raise Interrupted
        return _error(module, generator)

    return fit("line", module, loss_of, Plan(12, 0.01, warmup=3), folder, checkpoint_seconds=0)


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path):
    straight = _train(tmp_path / "straight")
    with pytest.raises(Interrupted):
        _train(tmp_path / "broken", fail_at=7)
    resumed = _train(tmp_path / "broken")
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_training_is_looked_at_in_its_moving_average(tmp_path: Path):
    seen: dict[int, Tensor] = {}

    def look(average: nn.Module, step: int) -> None:
        seen[step] = next(average.parameters()).clone()

    torch.manual_seed(0)
    module = _line()
    last = fit("line", module, lambda g, _: _error(module, g), Plan(9, 0.01, warmup=3), tmp_path, evaluation=(3, look))
    assert list(seen) == [3, 6, 9]
    assert torch.equal(seen[9], next(last.parameters()))
    assert not torch.equal(seen[6], seen[9])


def test_bars_of_a_half_trained_model_are_logged(tmp_path: Path):
    line = log_accuracy(load(), 700, tmp_path, count=4)
    assert json.loads((tmp_path / "bars.jsonl").read_text()) == line
    assert (line["step"], line["captions"]) == (700, 4)
    assert {"object", "colour", "texture", "size"} <= set(line) <= {"step", "captions", *REQUIRED}
    assert line["setting"] in (0, 0.25, 0.5, 0.75, 1)


def test_one_command_goes_from_nothing_to_weights_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weights = tmp_path / "weights"
    for module in (export, scenes, builtin):
        monkeypatch.setattr(module, "WEIGHTS", weights)
    steps = {"data": 8, "vae": 1, "text": 1, "unet": 2, "reader": 1, "reward": 1, "clip": 1, "judge": 1}
    assert list(steps) == list(command.STEPS)
    monkeypatch.setattr(command, "STEPS", steps)
    monkeypatch.setattr("sys.argv", ["training", "--folder", str(tmp_path), "--threads", "1", "--device", "cpu"])
    command.main()
    pipe = load()
    trace = dv.trace(pipe, "a red circle", seed=1, num_inference_steps=2)
    assert is_scenes_model(trace.meta["fingerprint"])
    assert dv.concept_scores(trace, ["circle", "red"]).cosine.shape == (2, 2)
    for folder in ("pipeline/tokenizer", "clip"):
        tokenizer = json.loads((weights / folder / "tokenizer.json").read_text(encoding="utf-8"))
        assert tokenizer["padding"] is tokenizer["truncation"] is None
    assert len(load_judge(weights / "judge.safetensors").detect(trace.image[None])) == 1


def test_exported_weights_do_not_tell_where_they_were_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    began_with = load()
    for module in (export, scenes):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    export.export_pipeline(began_with)
    configs = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json")]
    assert len(configs) > 5
    assert not any(str(scenes.__path__[0]) in config for config in configs)


def _learn_beside(rank: int, folder: Path, address: str) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.save(_train(folder / "together").state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_as_one_from_the_batches_of_both(tmp_path: Path):
    torch.multiprocessing.spawn(_learn_beside, (tmp_path, f"file://{tmp_path}/meet"), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.manual_seed(0)
    alone = _line()

    def loss_of(_: torch.Generator, step: int) -> Tensor:
        both = [torch.Generator().manual_seed(2 * step + rank) for rank in (0, 1)]
        return torch.stack([_error(alone, generator) for generator in both]).mean()

    expected = fit("line", alone, loss_of, Plan(12, 0.01, warmup=3), tmp_path / "alone").state_dict()
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], value, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_networks_compute_the_same_to_bfloat16_where_the_processor_has_it():
    torch.manual_seed(0)
    first, x = nn.Conv2d(4, 32, 3, padding=1), torch.randn(2, 4, 8, 8)
    module = nn.Sequential(first, nn.SiLU(), nn.Conv2d(32, 4, 3))
    expected = module(x)
    (slope,) = torch.autograd.grad(expected.square().mean(), first.weight)
    actual = compiled(module)(x)
    (found_slope,) = torch.autograd.grad(actual.float().square().mean(), first.weight)
    able = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert actual.dtype == (torch.bfloat16 if able else torch.float32)
    assert (actual.float() - expected).abs().max() < 0.02
    assert (found_slope - slope).norm() < 0.03 * slope.norm()


def test_places_of_things_count_more_in_the_latents():
    plans = [sketch(i, held_out=False) for i in range(40)]
    weights = latent_weights(plans)
    assert weights.shape == (40, 1, 12, 12)
    assert weights.float().mean().item() == pytest.approx(1, abs=1e-2)
    for plan, (weight,) in zip(plans, weights, strict=True):
        at_things = [weight[int(pose.y // 8), int(pose.x // 8)] for pose in plan.poses]
        assert min(at_things) > 2 * weight.min()


def test_the_learning_rate_rises_holds_and_falls_to_zero():
    plan = Plan(1000, 0.1, warmup=100, decay=0.5)
    assert [plan.rate_at(step) for step in (49, 99, 400)] == pytest.approx([0.05, 0.1, 0.1])
    assert plan.rate_at(750) == pytest.approx(0.05)
    assert plan.rate_at(999) < 1e-5


def test_muon_steps_along_the_orthogonal_part_of_the_gradient():
    torch.manual_seed(1)
    weight = nn.Parameter(torch.zeros(24, 40))
    weight.grad = torch.randn(24, 40)
    Muon([weight], lr=0.1).step()
    u, _, vt = torch.linalg.svd(weight.grad, full_matrices=False)
    step = -weight.detach() / (0.1 * 0.2 * 40**0.5)
    values = torch.linalg.svdvals(step)
    assert values.min() > 0.6
    assert values.max() < 1.3
    cosine = (step * (u @ vt)).sum() / step.norm() / (u @ vt).norm()
    assert cosine > 0.98


def test_muon_takes_each_matrix_for_itself():
    torch.manual_seed(1)
    shapes = [(24, 40), (24, 40), (40, 24), (16, 16, 3, 3), (24, 40)]
    together = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for weight in together:
        weight.grad = torch.randn(weight.shape)
    alone = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for value, weight in zip(alone, together, strict=True):
        value.grad = weight.grad
        Muon([value], lr=0.1).step()
    Muon(together, lr=0.1).step()
    for value, weight in zip(alone, together, strict=True):
        assert torch.allclose(value, weight, atol=1e-5)


def test_muon_serves_kernels_only():
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.GroupNorm(8, 32), nn.Embedding(50, 32))
    assert [tuple(p.shape) for p in hidden_matrices(model)] == [(32, 32, 3, 3)]


def test_the_dataset_is_the_training_scenes_in_order(tmp_path: Path):
    dataset.make(tmp_path, 6)
    data = dataset.read(tmp_path)
    scene = draw(4, held_out=False)
    assert len(data.captions) == 6
    assert data.captions[4] == scene.caption
    assert np.array_equal(data.images[4], scene.image)


def test_a_missing_dataset_says_what_to_do(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="run the data stage first"):
        dataset.read(tmp_path)


def test_a_phrase_holds_where_one_thing_fits_all_of_it():
    plan = next(p for p in (sketch(i) for i in range(1000)) if len(p.things) == 2 and p.things[0].shape == "circle"
                and p.things[1].shape == "boat" and p.things[0].colour != p.things[1].colour)  # fmt: skip
    circle, boat = plan.things
    assert circle.colour is not None
    assert boat.colour is not None
    assert Phrase(shape="circle", colour=circle.colour).holds(plan)
    assert Phrase(colour=boat.colour).holds(plan)
    assert not Phrase(shape="circle", colour=boat.colour).holds(plan)
    assert not Phrase(shape="fish").holds(plan)
    assert Phrase(texture="striped", colour="red", shape="circle").text() == "striped red circle"


SPEC = Spec((Thing("circle", "red"), Thing("boat", "blue", texture="striped")), relation="above", setting="night")
CIRCLE = Detection(Thing("circle", "red"), 40, 20, 0.9)
BOAT = Detection(Thing("boat", "blue", texture="striped"), 45, 70, 0.9)


@pytest.mark.parametrize(
    ("detections", "setting", "expected"),
    [
        ((CIRCLE, BOAT), "night", {"colour": [True, True], "relation": [True], "setting": [True]}),
        ((CIRCLE,), None, {"object": [True, False], "relation": [False], "setting": [False]}),
        ((CIRCLE, Detection(BOAT.thing, 40, 5, 0.9)), "night", {"object": [True, True], "relation": [False]}),
        (
            (Detection(Thing("circle", "blue"), 40, 20, 0.9), Detection(Thing("boat", "red"), 45, 70, 0.9)),
            "night",
            {"object": [True, True], "colour": [False, False], "relation": [False], "texture": [False, False]},
        ),
    ],
)
def test_the_check_asks_what_the_caption_asks(
    detections: tuple[Detection, ...], setting: str | None, expected: dict[str, list[bool]]
):
    answers = check(SPEC, Verdict(detections, setting))
    assert {key: answers[key] for key in expected} == expected


ANY = Spec((Thing("star", "blue"), Thing("star", None)), relation="right")
STRIPED = Spec((Thing("boat", None, texture="striped"), Thing("boat", "pink")), relation="below")


def _sees(shape: str, colour: str, x: float, y: float, confidence: float, texture: str | None = None) -> Detection:
    return Detection(Thing(shape, colour, texture=texture), x, y, confidence)


@pytest.mark.parametrize(
    ("spec", "detections", "expected"),
    [
        # A star of any colour is the other one, however much surer the judge is of the blue one.
        (
            ANY,
            [_sees("star", "blue", 70, 40, 0.99), _sees("star", "red", 20, 40, 0.9)],
            {"colour": [True, True], "relation": [True]},
        ),
        (
            ANY,
            [_sees("star", "blue", 20, 40, 0.99), _sees("star", "red", 70, 40, 0.9)],
            {"colour": [True, True], "relation": [False]},
        ),
        # Which of two pink boats is meant is told by the stripes, not by where they stand.
        (
            STRIPED,
            [_sees("boat", "pink", 40, 20, 0.99, "striped"), _sees("boat", "pink", 40, 70, 0.9)],
            {"texture": [True, True], "relation": [False]},
        ),
        # One thing is not two.
        (ANY, [_sees("star", "red", 70, 40, 0.99)], {"object": [False, True], "relation": [False]}),
        # Of two where one was asked for, the surer one counts, not the one that fits better.
        (
            Spec((Thing("circle", "red", texture="striped"),)),
            [_sees("circle", "red", 20, 40, 0.99), _sees("circle", "red", 70, 40, 0.9, "striped")],
            {"texture": [False]},
        ),
    ],
)
def test_no_thing_is_taken_for_another_of_its_shape(
    spec: Spec, detections: list[Detection], expected: dict[str, list[bool]]
):
    for order in (detections, detections[::-1]):
        answers = check(spec, Verdict(tuple(order), None))
        assert {key: answers[key] for key in expected} == expected


def test_the_judges_answers_have_a_place_for_every_class():
    cells, setting = Judge()(torch.zeros(2, 3, 96, 96))
    assert cells.shape == (2, 3 + sum(map(len, CLASSES.values())), 12, 12)
    assert setting.shape == (2, len(SETTING_CLASSES))
