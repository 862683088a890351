"""Reads images with masks in the layout of Pascal VOC, and writes renderings of the scenes world in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGES, MASKS, SPLITS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
CLASSES, NAMES = "classes.txt", "names.json"
VOID = 255
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# words that a text encoder knows better than those of the data set's names
SPOKEN = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}


class DataError(ValueError):
    """The folder does not hold what it should."""


@dataclass(frozen=True)
class Sample:
    """An image with its mask.

    Attributes:
        name: Its name in the split.
        image: RGB.
        mask: uint8 (H, W): 0 is background, 255 void, any other value a class.
        classes: The values of the mask that are classes, in order, with their names.
    """

    name: str
    image: Image.Image
    mask: NDArray[np.uint8]
    classes: dict[int, str]


class VocFolder:
    """A folder with JPEGImages, SegmentationClass (PNG with a palette) and ImageSets/Segmentation.

    Args:
        folder: The folder.
        split: Which list of ImageSets/Segmentation to read: "val" for val.txt.

    Raises:
        DataError: A part of the layout is missing.

    Attributes:
        names: The images of the split.
    """

    def __init__(self, folder: Path, split: str = "val") -> None:
        missing = [part for part in (IMAGES, MASKS, SPLITS) if not (folder / part).is_dir()]
        if missing:
            raise DataError(
                f"--data {folder}: there is no folder {' and no folder '.join(missing)} in it; it must hold {IMAGES}, "
                f"{MASKS} and {SPLITS}, as VOCdevkit/VOC2012 does"
            )
        listing = folder / SPLITS / f"{split}.txt"
        if not listing.is_file():
            there = ", ".join(sorted(path.stem for path in (folder / SPLITS).glob("*.txt"))) or "none"
            raise DataError(f"--split {split}: there is no {listing}; splits of this folder: {there}")
        self.names = [line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not self.names:
            raise DataError(f"--split {split}: {listing} lists no image")
        self._folder = folder
        self._classes = self._class_list()
        names = folder / NAMES
        self._of_image: dict[str, dict[str, str]] = _json(names) if names.is_file() else {}

    def _class_list(self) -> tuple[str, ...]:
        path = self._folder / CLASSES
        if not path.is_file():
            return tuple(SPOKEN.get(name, name) for name in VOC_CLASSES)
        classes = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        if not classes:
            raise DataError(f"{path} lists no class: write one name a line, the first is that of the value 1")
        return classes

    def read(self, name: str) -> Sample:
        """Read an image of the split.

        Args:
            name: Its name.

        Returns:
            The image with its mask.

        Raises:
            DataError: A file is missing, is no image, or holds a value without a name.
        """
        image = _image(self._image_path(name)).convert("RGB")
        path = self._folder / MASKS / f"{name}.png"
        stored = _image(path)
        if stored.mode not in ("P", "L", "1"):
            raise DataError(f"{path}: a mask must be a PNG with a palette, or grey, whose values are classes; its mode "
                            f"is {stored.mode}")  # fmt: skip
        if stored.size != image.size:
            raise DataError(f"{path}: its size is {stored.size}, that of the image {image.size}")
        mask = np.array(stored).astype(np.uint8)
        values = [int(value) for value in np.unique(mask) if value not in (0, VOID)]
        return Sample(name, image, mask, {value: self._class(name, value, path) for value in values})

    def _image_path(self, name: str) -> Path:
        paths = [self._folder / IMAGES / f"{name}{ending}" for ending in (".jpg", ".jpeg", ".JPEG", ".png")]
        present = [path for path in paths if path.is_file()]
        if not present:
            raise DataError(f"{self._folder / IMAGES}: there is no {name}.jpg and no {name}.png, which the split lists")
        return present[0]

    def _class(self, name: str, value: int, path: Path) -> str:
        if name in self._of_image:
            if (text := self._of_image[name].get(str(value))) is None:
                raise DataError(f"{path} holds the value {value}, for which {NAMES} gives no name")
            return text
        if value > len(self._classes):
            raise DataError(
                f"{path} holds the value {value}, but there are {len(self._classes)} classes; write their names into "
                f"{CLASSES}, one a line, or those of single images into {NAMES}"
            )
        return self._classes[value - 1]


def _image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no image: {error}") from None


def _json(path: Path) -> Any:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
        assert all(isinstance(part, dict) for part in names.values())
    except (ValueError, AttributeError, AssertionError):
        raise DataError(f'{path} must be JSON such as {{"image name": {{"1": "dog"}}}}') from None
    return names


def write_renderings(folder: Path, count: int) -> Path:
    """Write held-out renderings of the scenes world with the masks of their objects.

    Args:
        folder: Where to; created if necessary.
        count: Number of scenes.

    Returns:
        The folder.
    """
    from diffvis_widget.scenes.evaluation.captions import held_out_scenes
    from diffvis_widget.scenes.world import SHAPES

    for part in (IMAGES, MASKS, SPLITS):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / CLASSES).write_text("\n".join(SHAPES) + "\n", encoding="utf-8")
    names: list[str] = []
    for number, scene in enumerate(held_out_scenes(count)):
        values: NDArray[np.uint8] = np.zeros(scene.image.shape[:2], np.uint8)
        for mention, mask in zip(scene.mentions, scene.masks, strict=True):
            if mention.role == "object":
                values[mask] = 1 + SHAPES.index(scene.caption[mention.start : mention.end])
        if not values.any():
            continue
        names.append(f"scene_{number:04d}")
        Image.fromarray(scene.image).save(folder / IMAGES / f"{names[-1]}.png")
        mask = Image.fromarray(values, mode="P")
        mask.putpalette(palette(len(SHAPES)))
        mask.save(folder / MASKS / f"{names[-1]}.png")
    (folder / SPLITS / "val.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def palette(classes: int) -> Sequence[int]:
    """Make a palette: black for the background, then distinct colours.

    Args:
        classes: Number of classes.

    Returns:
        RGB values, one after another.
    """
    colours = np.random.default_rng(0).integers(64, 256, (classes, 3))
    return [0, 0, 0, *(int(value) for value in colours.ravel())]
