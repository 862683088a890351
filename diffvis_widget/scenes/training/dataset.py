"""Training scenes on disk: memory-mapped images with their captions, rendered once; interrupted runs resume."""

from __future__ import annotations

import json
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffvis_widget.scenes.render import SIZE, draw

_CHUNK = 500


@dataclass(frozen=True)
class Dataset:
    """Training scenes; scene i is `draw(i, held_out=False)`.

    Attributes:
        images: uint8 (n, 96, 96, 3), memory-mapped.
        captions: n captions.
    """

    images: NDArray[np.uint8]
    captions: list[str]

    def pixels(self, index: Tensor) -> Tensor:
        """The images of given indices.

        Args:
            index: int64 (n,).

        Returns:
            float32 (n, 3, 96, 96) in -1..1.
        """
        batch = torch.from_numpy(self.images[index.numpy()])
        return batch.permute(0, 3, 1, 2).float() / 127.5 - 1


def _draw_one(seed: int) -> tuple[NDArray[np.uint8], str]:
    scene = draw(seed, held_out=False)
    return scene.image, scene.caption


def make(folder: Path, count: int, workers: int = 1) -> None:
    """Render training scenes 0 to count - 1, starting where an earlier call stopped.

    Args:
        folder: Where they are written.
        count: Number of scenes.
        workers: Number of processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Pool(workers) as pool:
        for start in range(0, count, _CHUNK):
            part = folder / f"{start:07d}.npy"
            if part.exists():
                continue
            drawn = pool.map(_draw_one, range(start, min(start + _CHUNK, count)), chunksize=25)
            part.with_suffix(".json").write_text(json.dumps([caption for _, caption in drawn]))
            # The array is renamed into place last: its presence says that the chunk is whole.
            partial = folder / "partial.npy"
            np.save(partial, np.stack([image for image, _ in drawn]))
            partial.rename(part)


def read(folder: Path) -> Dataset:
    """Load all chunks that `make` has finished.

    Args:
        folder: Where they are.

    Returns:
        The scenes.

    Raises:
        FileNotFoundError: There is none.
    """
    parts = sorted(folder.glob("[0-9]*.npy"))
    if not parts:
        raise FileNotFoundError(f"no training scenes in {folder}: run the data stage first")
    images = np.concatenate([np.load(part) for part in parts])
    captions = [text for part in parts for text in json.loads(part.with_suffix(".json").read_text())]
    assert images.shape == (len(captions), SIZE, SIZE, 3)
    return Dataset(images, captions)
