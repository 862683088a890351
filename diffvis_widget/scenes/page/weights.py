"""The packaged weights in the order in which a page's graphs take them, in half precision."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffvis_widget.shipped import PAGE_GRAPHS, WEIGHTS

SOURCES = {
    "text_encoder": "pipeline/text_encoder/model.safetensors",
    "unet": "pipeline/unet/diffusion_pytorch_model.safetensors",
    "decoder": "pipeline/vae/diffusion_pytorch_model.safetensors",
    "image_meter": "clip/open_clip_model.safetensors",
    "text_meter": "clip/open_clip_model.safetensors",
}
"""The file of weights of each graph."""


def read_tensors(graph: str) -> dict[str, NDArray[np.float16]]:
    """Read the weights that a graph is made of.

    Args:
        graph: Name of the graph.

    Returns:
        float16 tensors by name.

    Raises:
        FileNotFoundError: The package does not contain the weights.
    """
    from safetensors.numpy import load_file

    return load_file(WEIGHTS / SOURCES[graph])


@cache
def graph_index() -> dict[str, dict[str, Any]]:
    """Read which tensors each graph takes.

    Returns:
        By graph: ``tensors``, a list of [name, whether it is transposed]; for the U-Net also ``layers``.

    Raises:
        FileNotFoundError: The package does not contain the graphs.
    """
    path = PAGE_GRAPHS / "graphs.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"the graphs of the scenes model are missing from {PAGE_GRAPHS}: reinstall diffvis-widget"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def page_weights(graph: str) -> bytes:
    """Collect the weights of a graph.

    Args:
        graph: Name of the graph.

    Returns:
        Half precision, little endian: its tensors one after the other, in the order of the graph.

    Raises:
        FileNotFoundError: The package does not contain the weights.
        ValueError: The weights lack a tensor: the graphs belong to other weights.
    """
    tensors, parts = read_tensors(graph), list[bytes]()
    for name, transposed in graph_index()[graph]["tensors"]:
        if name not in tensors:
            raise ValueError(f"the graphs belong to other weights: there is no {name}; run diffvis_widget.scenes.page")
        values = tensors[name].T if transposed else tensors[name]
        parts.append(np.ascontiguousarray(values).astype("<f2").tobytes())
    return b"".join(parts)


def page_graph(graph: str) -> bytes:
    """Read a graph.

    Args:
        graph: Its name.

    Returns:
        The ONNX file without weights.

    Raises:
        FileNotFoundError: The package does not contain it.
    """
    return (PAGE_GRAPHS / f"{graph}.onnx").read_bytes()
