"""Distances of two images, and of two sets of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.arguments import instance
from diffvis_widget.concepts import ConceptMeter

from .map_similarity import similarity

Distance = Literal["ssim", "pixels", "features", "frechet"]
DISTANCES = ("ssim", "pixels", "features", "frechet")
Images = NDArray[np.uint8]
Pairwise = Callable[[Images, Images], NDArray[np.float64]]


def pairwise(distance: Distance, meter: ConceptMeter | None) -> Pairwise:
    """Choose the distance of pairs of images.

    Args:
        distance: "ssim", "pixels" or "features".
        meter: The meter, for "features".

    Returns:
        A function of images uint8 (n, H, W, 3) and a reference image (1, H, W, 3) that returns float64 (n,).
    """
    if distance == "ssim":
        return lambda images, reference: (
            1.0 - similarity(_channels(images), _channels(reference), "ssim").mean(axis=(1, 2), dtype=np.float64)
        )
    if distance == "pixels":
        return lambda images, reference: np.sqrt(
            np.mean(np.square(images / 255.0 - reference / 255.0), axis=(1, 2, 3), dtype=np.float64)
        )
    assert meter is not None
    return lambda images, reference: (
        1.0 - (meter.image_features(images) @ meter.image_features(reference)[0]).astype(np.float64)
    )


def _channels(images: Images) -> NDArray[np.float32]:
    return np.moveaxis(images, -1, 1).astype(np.float32) / np.float32(255)


def frechet(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Compute the Frechet distance of two sets of features, each modelled as a Gaussian.

    |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)); with the features of an Inception network this is the FID of M. Heusel
    et al., NeurIPS 2017, arXiv 1706.08500. Small sets give large distances: compare only sets of the same size.

    Args:
        first: Features (n, D), n of 2 or more.
        second: Features (m, D), m of 2 or more.

    Returns:
        The distance, 0 or more up to rounding.

    Raises:
        TypeError: If they are no arrays.
        ValueError: If the shapes differ from these.

    Example:
        >>> import numpy as np
        >>> features = np.array([[0.0], [2.0]])
        >>> round(dv.explain.frechet(features, features + 3), 6)
        9.0
    """
    for name, features in (("first", first), ("second", second)):
        instance(name, features, np.ndarray, "an array of features (n, D)")
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(f"first and second must be (n, D) and (m, D), n, m >= 2, not {first.shape} and {second.shape}")
    a, b = first.astype(np.float64), second.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(part, rowvar=False)) for part in (a, b)]
    root = _root(covariances[0])
    # S1 S2 has the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2)
    shared = np.linalg.eigvalsh(root @ covariances[1] @ root)
    shift = float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum())
    return shift + float(np.trace(covariances[0] + covariances[1])) - 2 * float(np.sqrt(np.maximum(shared, 0)).sum())


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
