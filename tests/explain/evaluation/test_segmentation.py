"""The segmentation benchmark: its metrics, its data, and the whole of it with pipelines of random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.segmentation.__main__ import main
from benchmarks.segmentation.measure import measure
from benchmarks.segmentation.tables import RULES, summarise
from benchmarks.segmentation.voc import DataError, Sample, VocFolder, write_renderings
from diffvis_widget.explain.evaluation.metrics import pixel_counts, two_class_precision
from diffvis_widget.scenes.evaluation.captions import held_out_scenes
from tests import pipelines, pipelines_joint


@pytest.fixture(scope="module")
def renderings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_renderings(tmp_path_factory.mktemp("voc"), 6)


def test_the_counts_of_pixels_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    chosen, truth = rng.integers(0, 4, (2, 9, 7))
    truth[0] = 255
    counts = pixel_counts(chosen, truth, void=255)
    pairs = [(int(a), int(b)) for a, b in zip(chosen.ravel(), truth.ravel(), strict=True) if b != 255]
    for value in range(4):
        both = sum(a == b == value for a, b in pairs)
        either = sum(value in pair for pair in pairs)
        assert counts[value] == (both, either)


def test_the_precision_of_both_classes_is_that_of_a_naive_ranking() -> None:
    rng = np.random.default_rng(1)
    heat, mask = rng.random(60), rng.random(60) < 0.3
    scaled = (heat - heat.min()) / (heat.max() - heat.min())
    scores = [(score, bool(label)) for score, label in zip(scaled, mask, strict=True)]
    scores += [(1 - score, not label) for score, label in zip(scaled, mask, strict=True)]
    scores.sort(key=lambda pair: -pair[0])
    hits, total = 0, 0.0
    for rank, (_, label) in enumerate(scores, start=1):
        hits += label
        total += hits / rank if label else 0
    assert two_class_precision(heat, mask) == pytest.approx(total / hits)
    assert two_class_precision(mask.astype(float), mask) == 1
    assert two_class_precision(np.ones(60), mask) == pytest.approx(0.5)


def test_maps_that_are_the_masks_segment_perfectly() -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[20:90, 30:150], mask[120:200, 40:100], mask[:, 150:160] = 3, 5, 255
    sample = Sample("two", Image.new("RGB", (224, 224)), mask, {3: "cat", 5: "dog"})
    exact = np.stack([mask == 0, mask == 3, mask == 5]).astype(np.float32)
    blind = np.stack([np.ones((8, 8)), np.zeros((8, 8)), np.zeros((8, 8))]).astype(np.float32)
    line = measure(sample, {"exact": exact, "blind": blind})
    row = summarise([line], "exact", "multi")
    assert row is not None
    assert (row.images, row.accuracy, row.mean_iou, row.mean_precision) == (1, 1, 1, 1)
    row = summarise([line], "blind", "multi")
    assert row is not None
    background = (mask == 0).sum() / (mask != 255).sum()
    assert row.accuracy == pytest.approx(background)
    assert row.mean_iou == pytest.approx(background / 3)  # of the two classes nothing is found
    assert summarise([line], "exact", "single") is None


def test_the_rule_of_the_threshold_compares_with_the_mean() -> None:
    mask = np.zeros((224, 224), np.uint8)
    mask[:112] = 1
    heat = np.where(mask == 1, 3.0, 1.0)
    heat[112:140] = 2.5  # above the mean, outside of the mask
    line = measure(Sample("one", Image.new("RGB", (224, 224)), mask, {1: "cat"}), {"map": heat[None]})
    row = summarise([line], "map", "threshold")
    assert row is not None
    assert row.accuracy == pytest.approx(1 - 28 / 224)
    assert row.mean_iou == pytest.approx((112 / 140 + 84 / 112) / 2)


def test_renderings_are_written_with_the_masks_of_their_objects(renderings: Path) -> None:
    folder = VocFolder(renderings)
    assert len(folder.names) == 6
    for name, scene in zip(folder.names, held_out_scenes(6), strict=True):
        sample = folder.read(name)
        assert np.array_equal(np.array(sample.image), scene.image)
        for mention, mask in zip(scene.mentions, scene.masks, strict=True):
            if mention.role == "object":
                word = scene.caption[mention.start : mention.end]
                assert {sample.classes[int(value)] for value in sample.mask[mask]} == {word}


@pytest.mark.parametrize(
    ("name", "make", "kinds"),
    [
        ("sdxl", pipelines.stable_diffusion_xl, 4),
        ("sd3.5", pipelines_joint.stable_diffusion_3, 5),
        ("flux", pipelines_joint.flux_schnell, 5),
    ],
)
def test_every_model_is_measured_and_resumed(
    name: str,
    make: Callable[[], Any],
    kinds: int,
    renderings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make().save_pretrained(tmp_path / "weights")
    arguments = ["--model", name, "--data", str(renderings), "--weights", str(tmp_path / "weights"), "--size", "64"]
    arguments += ["--levels", "500", "300", "--out", str(tmp_path / "out")]
    results = tmp_path / "out" / f"{name}.jsonl"
    assert main([*arguments, "--images", "2"]) == 0
    results.write_text(results.read_text() + '{"image": "cut')  # as if it had been killed while writing
    first = results.read_text().splitlines()[:2]
    capsys.readouterr()
    assert main([*arguments, "--images", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("segmentation: scene_") == 1  # the third only
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [json.dumps(line, separators=(",", ":")) for line in lines[:2]] == first
    assert len(lines) == 3
    assert len(lines[2]["maps"]) == kinds
    assert (tmp_path / "out" / f"{name}.md").read_text() in printed
    assert RULES["multi"] in printed
    assert main([*arguments[:-4], "400", "--out", str(tmp_path / "out")]) == 2
    assert "measured with other settings" in capsys.readouterr().err


def test_published_numbers_stand_beside_images_of_one_class() -> None:
    from benchmarks.segmentation.tables import tables

    mask = np.zeros((224, 224), np.uint8)
    mask[:112] = 1
    line = measure(Sample("one", Image.new("RGB", (9, 9)), mask, {1: "cat"}), {"map": mask[None].astype(np.float32)})
    text = "\n".join(tables([line], published=True))
    assert "| map | 100.0 | 100.0 |" in text
    assert "DAAM, SDXL (published) |  | 64.6 |" in text
    assert "published" not in "\n".join(tables([line], published=False))


def remove(part: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / part)


def write(part: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / part).write_text(text)


def resave(part: str, change: Callable[[Image.Image], Image.Image]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with Image.open(folder / part) as image:
            changed = change(image)
        changed.save(folder / part)

    return spoil


FIRST = "SegmentationClass/scene_0000.png"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("SegmentationClass"), "there is no folder SegmentationClass in it"),
        (write("ImageSets/Segmentation/val.txt", "\n"), "lists no image"),
        (write("ImageSets/Segmentation/val.txt", "absent\n"), "there is no absent.jpg and no absent.png"),
        (write("JPEGImages/scene_0000.png", "text"), "is no image"),
        (write("classes.txt", "circle\n"), "but there are 1 classes; write their names into classes.txt"),
        (write("classes.txt", ""), "lists no class"),
        (write("names.json", "[1]"), "must be JSON such as"),
        (write("names.json", '{"scene_0000": {}}'), "for which names.json gives no name"),
        (resave(FIRST, lambda mask: mask.convert("RGB")), "its mode is RGB"),
        (resave(FIRST, lambda mask: mask.resize((9, 9))), "its size is (9, 9), that of the image (96, 96)"),
        (resave(FIRST, lambda mask: Image.new("L", mask.size)), "holds no class, only background"),
        (lambda folder: (folder / FIRST).unlink(), "scene_0000.png is missing"),
    ],
)
def test_data_that_cannot_be_used_are_named(
    spoil: Callable[[Path], object],
    message: str,
    renderings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "voc"
    shutil.copytree(renderings, folder)
    spoil(folder)
    assert main(["--model", "scenes", "--data", str(folder), "--images", "1", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_another_split_is_offered(renderings: Path) -> None:
    with pytest.raises(DataError, match="splits of this folder: val"):
        VocFolder(renderings, "train")


def test_images_of_classes_of_their_own_have_names(renderings: Path, tmp_path: Path) -> None:
    folder = tmp_path / "voc"
    shutil.copytree(renderings, folder)
    values = [int(value) for value in np.unique(VocFolder(renderings).read("scene_0000").mask) if value]
    (folder / "names.json").write_text(json.dumps({"scene_0000": {str(value): f"thing {value}" for value in values}}))
    assert list(VocFolder(folder).read("scene_0000").classes.values()) == [f"thing {value}" for value in values]
